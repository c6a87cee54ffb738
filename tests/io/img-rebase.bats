#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img rebase -c: what is written into the image is compressed, and the disk stays the same.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR" || return
}

# chain OPTIONS: a raw base with data in every second 100 KiB, an image over it with some of its own.
chain() {
    rm -f base.raw top.qcow2
    truncate -s 3000000 base.raw
    for i in 0 2 4 6 8 10 12; do
        printf 'backing%.0s' {1..14000} | dd of=base.raw bs=1 seek=$((i * 102400)) conv=notrunc status=none
    done
    expect 0 blkproof img create -q -f qcow2 -o "$1" -b base.raw -F raw top.qcow2
    expect 0 blkproof io -c 'write -P 7 300k 70k' -c 'write -z 500k 64k' -c 'write -P 8 2900k 20k' top.qcow2
    expect 0 blkproof img convert -O raw top.qcow2 before.raw
}

@test "the clusters that come into the image are compressed" {
    local options
    for options in cluster_size=64k cluster_size=4k cluster_size=64k,compression_type=zstd cluster_size=2M; do
        chain "$options"
        expect 0 blkproof img rebase -c -b '' top.qcow2
        expect 0 blkproof img convert -O raw top.qcow2 after.raw
        cmp before.raw after.raw
        expect 0 blkproof img check --output=json top.qcow2
        # shellcheck disable=SC2154 # set by expect
        lacks "$out" '"leaks"'
        contains "$out" '"compressed-clusters"' || [ "$options" = cluster_size=2M ]
    done
}

@test "a cluster of which the image has a part is not" {
    chain cluster_size=64k,extended_l2=on
    expect 0 blkproof img rebase -c -b '' top.qcow2
    expect 0 blkproof img convert -O raw top.qcow2 after.raw
    cmp before.raw after.raw
    expect 0 blkproof img check top.qcow2
}

@test "a format that does not compress is refused" {
    truncate -s 1M base.raw
    expect 1 blkproof img rebase -c -f raw -b '' base.raw
    # shellcheck disable=SC2154 # set by expect
    contains "$err" "Compression not supported for this file format"
}
