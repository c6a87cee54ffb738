#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img amend -p tells how far it is: an L1 entry each, of the disk's table and of the snapshots'.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    blkproof img create -q -f qcow2 -o cluster_size=64k a.img 2G # four L1 entries
}

# steps ARGS...: the per cents shown, in order
steps() {
    blkproof img amend -p "$@" | grep -oE '[0-9.]+/100%' | tr '\n' ' '
}

@test "a downgrade, without and with a snapshot" {
    equal "$(steps -o compat=0.10 a.img)" "0.00/100% 25.00/100% 50.00/100% 75.00/100% 100.00/100% 100.00/100% "
    blkproof img amend -o compat=1.1 a.img
    blkproof img snapshot -c s a.img
    contains "$(steps -o compat=0.10 a.img)" "0.00/100% 12.50/100% 25.00/100% "
}

@test "two long steps share the way" {
    blkproof img amend -o refcount_bits=8 a.img
    # the first half is the counts' (one block, looked at and written), the second the downgrade's
    equal "$(steps -o refcount_bits=16,compat=0.10 a.img)" \
        "0.00/100% 25.00/100% 50.00/100% 62.50/100% 75.00/100% 87.50/100% 100.00/100% 100.00/100% "
}
