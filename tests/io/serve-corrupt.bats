#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# blkproof serve, and an image that is found damaged under it: one sentence, no more writes, reads go on.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR" || return
    blkproof img create -q -f qcow2 bad.qcow2 1M
    blkproof io -c 'write -q -P 7 0 64k' -c 'write -q -P 8 64k 64k' bad.qcow2
    # the L2 entry of the first cluster points at the header
    local l1 l2
    l1=$((0x$(od -An -tx1 -j 40 -N 8 bad.qcow2 | tr -d ' \n')))
    l2=$((0x$(od -An -tx1 -j $l1 -N 8 bad.qcow2 | tr -d ' \n') & 0xfffffffffffe00))
    printf '\x80\0\0\0\0\2\0\0' | dd of=bad.qcow2 bs=1 seek=$l2 conv=notrunc status=none
}

@test "an image that is found damaged takes no more writes, and the server says so once" {
    serve s bad.qcow2
    expect 1 blkproof io -f raw -c 'write -P 1 0 64k' "$(uri s)"
    expect 1 blkproof io -f raw -c 'write -P 1 64k 64k' "$(uri s)"
    expect 1 blkproof io -f raw -c 'write -P 1 512k 64k' "$(uri s)"
    expect 0 blkproof io -r -f raw -c 'read -P 8 64k 64k' "$(uri s)"
    stop s || true
    equal "$(grep -c 'Marking image as corrupt' s.err)" 1
    contains "$(cat s.err)" "Preventing invalid write on metadata (overlaps with refcount block); further corruption events will be suppressed"
    expect 1 blkproof io -c 'write 0 64k' bad.qcow2
    # shellcheck disable=SC2154 # set by expect
    contains "$err" "Image is corrupt; cannot be opened read/write"
    expect 0 blkproof io -r -c 'read -P 8 64k 64k' bad.qcow2
}
