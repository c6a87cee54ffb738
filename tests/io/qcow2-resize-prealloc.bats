#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A qcow2 image that grows with preallocation: what was there stays (its last cluster may still be the backing
# file's), and what is new reads as zeroes, whatever lies in the backing file or in the clusters reused.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    blkproof img create -q base.raw 256k
    blkproof io -f raw -c 'write -q -P 1 0 256k' base.raw
}

# silent IMAGE COMMAND...: each succeeds, and a pattern it looks for is there
silent() {
    local image=$1 c
    shift
    for c; do
        expect 0 blkproof io -f qcow2 -c "$c" "$image"
        equal "$output" "" "$c"
    done
}

@test "a last cluster that the backing file has keeps its beginning" {
    for options in cluster_size=64k extended_l2=on,cluster_size=64k; do
        for mode in metadata falloc full; do
            for size in 31k 33k; do
                blkproof img create -q -f qcow2 -o "$options" -b base.raw -F raw a.img $size
                expect 0 blkproof img resize -q --preallocation=$mode a.img 200k
                silent a.img "read -q -P 1 0 $size" "read -q -P 0 $size 160k"
                expect 0 blkproof img check a.img
                expect 0 blkproof img resize -q a.img 256k
                silent a.img "read -q -P 1 0 $size" "read -q -P 0 $size 223k"
            done
        done
    done
}

@test "clusters reused do not show what was in them" {
    for mode in metadata falloc full; do
        blkproof img create -q -f qcow2 a.img 1M
        silent a.img 'write -q -P 0xee 0 1M'
        blkproof img resize -q a.img 2M
        silent a.img 'write -q -P 0xdd 1M 1M'
        # the old bytes stay in the file
        expect 0 blkproof io -c 'open -o driver=qcow2,discard=unmap,file.filename=a.img,file.discard=ignore' -c 'discard -q 0 1M'
        equal "$output" ""
        expect 0 blkproof img resize -q --preallocation=$mode a.img 2560k
        silent a.img 'read -q -P 0 0 1M' 'read -q -P 0xdd 1M 1M' 'read -q -P 0 2M 512k'
        expect 0 blkproof img check a.img
    done
}

@test "a preallocated part takes its room before it is written" {
    blkproof img create -q -f qcow2 a.img 100k
    blkproof img resize -q --preallocation=falloc a.img 1M
    before=$(stat -c '%s %b' a.img)
    silent a.img 'write -q -P 5 100k 900k'
    equal "$(stat -c '%s' a.img)" "${before% *}"
    [ "$(($(stat -c %b a.img) - ${before#* }))" -le 16 ] || fail "blocks: ${before#* }, then $(stat -c %b a.img)"
}
