#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A file name beside the options of a filter names what the filter is about; places of an image that lie in
# a row are one write.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    blkproof img create -q -f qcow2 a.img 1M
    blkproof io -f qcow2 -c 'write -q -P 1 0 192k' a.img
}

@test "blkdebug and blkverify" {
    expect 1 blkproof io -c 'open -o file.driver=blkdebug,file.inject-error.event=l2_load a.img' -c 'read 0 512'
    equal "$output" "read failed: Input/output error"
    blkproof img convert -f qcow2 -O raw a.img a.raw
    expect 0 blkproof io -c 'open -o driver=blkverify,raw.filename=a.raw a.img' -c 'read -q -P 1 0 512'
    equal "$output" ""
}

@test "data, zeroes that have kept their place, data: one write" {
    blkproof io -f qcow2 -c 'write -q -z 64k 64k' a.img
    # the second write to the file after the first would fail
    expect 0 blkproof io -c 'write -q -P 2 0 192k' 'json:{"driver":"qcow2","file":{"driver":"blkdebug",
        "image":{"driver":"file","filename":"a.img"},"set-state":[{"event":"write_aio","new_state":2}],
        "inject-error":[{"event":"write_aio","state":2}]}}'
    equal "$output" ""
    expect 0 blkproof io -f qcow2 -c 'read -q -P 2 0 192k' a.img
    expect 0 blkproof img check a.img
}
