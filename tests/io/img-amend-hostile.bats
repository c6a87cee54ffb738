#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img amend of images made to waste time: what their counts claim is not believed.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR" || return
    expect 0 blkproof img create -q -f qcow2 -b base.raw -F raw -u a.img 1M
    truncate -s 1M base.raw
    expect 0 blkproof io -f qcow2 -c 'write -z 0 64k' a.img
}

@test "a table cannot be in more L1 tables than there are" {
    # clusters of 64 KiB: header, refcount table, its block, L1 table, L2 table; counts of two bytes
    printf '\xff\xff' | dd of=a.img bs=1 seek=$((2 * 65536 + 4 * 2)) conv=notrunc status=none
    expect 1 blkproof img amend -o compat=0.10 a.img
    contains "$err" "Input/output error"
}

@test "a sparse file of a terabyte is no work for a change of the refcounts' width" {
    truncate -s 1T a.img
    expect 0 blkproof img amend -o refcount_bits=8 a.img
    expect 0 blkproof img check a.img
    [ "$(du -k a.img | cut -f1)" -lt 4096 ]
}
