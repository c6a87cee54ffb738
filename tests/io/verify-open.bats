#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# What the verify driver refuses to open, each in one sentence and with status 1.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 64k raw.img test.img
    truncate -s 128k long.img
}

refused() {
    expect 1 blkproof io -c 'read 0 512' "$1"
    equal "$out" ""
    equal "$(wc -l <<<"$err")" 1 "number of lines"
    contains "$err" "$2"
}

@test "lengths that differ are both named, with the way out" {
    refused blkverify:raw.img:long.img "the test device 'long.img' has 131072 bytes, the raw copy 'raw.img' has 65536"
    contains "$err" "length=prefix"
}

@test "length=prefix verifies what both have" {
    local json='json:{"driver":"blkverify","length":"prefix","raw":{"driver":"file","filename":"raw.img"},"test":{"driver":"file","filename":"long.img"}}'
    expect 0 blkproof io -c length -c 'read 0 64k' "$json"
    contains "$out" "64 KiB"
    expect 1 blkproof io -c 'read 65536 512' "$json"
}

@test "a name without a test device" {
    refused blkverify:raw.img "blkverify requires raw copy and original image path"
}

@test "a name without a raw copy" {
    refused blkverify::test.img "The 'file' block driver requires a file name"
}

@test "a name without a test device behind the colon" {
    refused blkverify:raw.img: "The 'file' block driver requires a file name"
}

@test "a raw copy that is not there" {
    refused blkverify:none.img:test.img none.img
}

@test "options without one of the two" {
    refused 'json:{"driver":"blkverify","raw":{"driver":"file","filename":"raw.img"}}' '"test"'
    refused 'json:{"driver":"blkverify","test":{"driver":"file","filename":"test.img"}}' '"raw"'
}

@test "an option out of its range" {
    refused 'json:{"driver":"blkverify","history":1,"raw":{"driver":"file","filename":"raw.img"},"test":{"driver":"file","filename":"test.img"}}' history
    refused 'json:{"driver":"blkverify","on-mismatch":"cry","raw":{"driver":"file","filename":"raw.img"},"test":{"driver":"file","filename":"test.img"}}' on-mismatch
}

@test "the format of the raw copy is never probed" {
    need qemu-img
    qemu-img create -q -f qcow2 raw.qcow2 1M
    cp raw.qcow2 test.bin
    expect 0 blkproof io -c 'read 0 64k' \
        'json:{"driver":"blkverify","raw":{"filename":"raw.qcow2"},"test":{"driver":"file","filename":"test.bin"}}'
    equal "$err" ""
}
