#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Zeroes in an image with subclusters: whole subclusters are marked, only the rest is written.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    blkproof img create -q -f qcow2 -o extended_l2=on,cluster_size=64k a.img 192k # subclusters of 2 KiB
    blkproof io -f qcow2 -c 'write -q -P 1 0 192k' a.img
}

# map IMAGE: "start length zero" a line
map() {
    blkproof img map --output json "$1" |
        sed -E 's/.*"start": ([0-9]+), "length": ([0-9]+), .*"zero": ([a-z]+).*/\1 \2 \3/'
}

@test "from within a subcluster to within another, over three clusters" {
    expect 0 blkproof io -f qcow2 -c 'write -q -z 63k 68k' -c 'read -q -P 1 0 63k' -c 'read -q -P 0 63k 68k' \
        -c 'read -q -P 1 131k 61k' a.img
    equal "$output" ""
    # 62k to 64k and 130k to 132k hold ones as well: written
    equal "$(map a.img)" "0 65536 false"$'\n'"65536 67584 true"$'\n'"133120 63488 false"
}

@test "within one cluster" {
    expect 0 blkproof io -f qcow2 -c 'write -q -z 3k 40k' -c 'read -q -P 1 0 3k' -c 'read -q -P 0 3k 40k' \
        -c 'read -q -P 1 43k 149k' a.img
    equal "$output" ""
    equal "$(map a.img)" "0 4096 false"$'\n'"4096 38912 true"$'\n'"43008 153600 false"
    expect 0 blkproof img check a.img
}

@test "a compressed cluster is written whole" {
    blkproof io -f qcow2 -c 'write -q -c -P 2 0 64k' a.img
    expect 0 blkproof io -f qcow2 -c 'write -q -z 3k 40k' -c 'read -q -P 2 0 3k' -c 'read -q -P 0 3k 40k' \
        -c 'read -q -P 2 43k 21k' a.img
    equal "$output" ""
    expect 0 blkproof img check a.img
}
