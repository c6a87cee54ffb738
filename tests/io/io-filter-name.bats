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

@test "read-modify-write at the end of a file that is not a multiple of the alignment" {
    blkproof img create -q -f qcow2 -o cluster_size=2k b.img 1M
    expect 0 blkproof io -c 'open -o driver=qcow2,file.align=4k blkdebug::b.img' -c 'write -q -P 3 0 512' \
        -c 'read -q -P 3 0 512' -c 'read -q -P 0 512 8k'
    equal "$output" ""
    expect 0 blkproof img check b.img
}

@test "a request overtakes one that waits for another at a breakpoint" {
    truncate -s 1M r.raw
    expect 0 timeout 20 blkproof io -c 'open -o driver=raw,file.align=4k blkdebug::r.raw' \
        -c 'break pwritev_rmw_after_tail A' -c 'aio_write -q -P 10 0xa000 0x200' -c 'wait_break A' \
        -c 'aio_write -q -P 11 0xa800 0x1000' -c 'break pwritev_rmw_after_head B' \
        -c 'aio_write -q -P 12 0xbe00 0x200' -c 'wait_break B' -c 'resume A' -c 'resume B' -c 'aio_flush' \
        -c 'read -q -P 10 0xa000 0x200' -c 'read -q -P 11 0xa800 0x1000' -c 'read -q -P 12 0xbe00 0x200'
    contains "$output" "blkdebug: Resuming request 'B'"
}
