#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img commit down a chain of three: the base gets what lies in the images over it, each at its place.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    # cluster:  0 1 2 3 4   base 11111, mid .222., top ..3.4
    blkproof img create -q -f qcow2 base.img 320k
    blkproof img create -q -f qcow2 -b base.img -F qcow2 mid.img
    blkproof img create -q -f qcow2 -b mid.img -F qcow2 top.img
    blkproof io -f qcow2 -c 'write -q -P 1 0 320k' base.img
    blkproof io -f qcow2 -c 'write -q -P 2 64k 192k' mid.img
    blkproof io -f qcow2 -c 'write -q -P 3 128k 64k' -c 'write -q -P 4 256k 64k' top.img
}

# holds IMAGE PATTERN...: one a cluster
holds() {
    local image=$1 at=0
    shift
    for p; do
        expect 0 blkproof io -f qcow2 -c "read -q -P $p ${at}k 64k" "$image"
        equal "$output" "" "$image at ${at}k, expected $p"
        at=$((at + 64))
    done
}

@test "into the backing file: the base keeps what it has, the image is empty" {
    expect 0 blkproof img commit top.img
    holds base.img 1 1 1 1 1
    holds mid.img 1 2 3 2 4
    equal "$(blkproof img map --output json top.img | grep -c '"depth": 0')" 0 "own clusters"
}

@test "into the base: what the image in the middle has goes there too" {
    expect 0 blkproof img commit -b base.img top.img
    holds base.img 1 2 3 2 4
    holds mid.img 1 2 2 2 4
    holds top.img 1 2 3 2 4
}

@test "zeroes in the middle are zeroes in the base" {
    blkproof io -f qcow2 -c 'write -q -z 192k 64k' mid.img
    expect 0 blkproof img commit -b base.img top.img
    holds base.img 1 2 3 0 4
}

@test "the base is named by its path, a relative one as the image over it would name it" {
    mkdir d
    mv base.img mid.img top.img d
    expect 1 blkproof img commit -b d/base.img d/top.img
    equal "$err" "blkproof: Did not find 'd/base.img' in the backing chain of 'd/top.img'"
    expect 0 blkproof img commit -d -b base.img d/top.img
    holds d/base.img 1 2 3 2 4
    ln -s d e
    expect 0 blkproof img commit -b "$PWD/e/base.img" d/top.img
}

@test "an emptied image is as small as a new one, and works" {
    expect 0 blkproof img commit top.img
    equal "$(stat -c %s top.img)" $((4 * 65536))
    expect 0 blkproof img check top.img
    expect 0 blkproof io -f qcow2 -c 'write -q -P 8 64k 64k' top.img
    holds top.img 1 8 3 2 4
    expect 0 blkproof img check top.img
}

@test "one with a snapshot keeps it" {
    blkproof img snapshot -c s top.img
    expect 0 blkproof img commit top.img
    expect 0 blkproof img check top.img
    equal "$(blkproof img map --output json top.img | grep -c '"depth": 0')" 0 "own clusters"
    expect 0 blkproof img snapshot -a s top.img
    holds top.img 1 2 3 2 4
}

@test "emptying that fails at any step leaves an image that opening repairs" {
    for event in l1_update empty_image_prepare reftable_update refblock_alloc; do
        cp top.img t.img
        printf '[inject-error]\nevent = "%s"\n' $event >rules
        expect 1 blkproof img commit "blkdebug:rules:t.img"
        contains "$err" "Failed to empty blkdebug:rules:t.img: Input/output error"
        expect 0 blkproof io -f qcow2 -c 'read -q 0 64k' t.img
        expect 0 blkproof img check t.img
        holds t.img 1 2 3 2 4
    done
}
