#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A server that breaks the protocol in its replies: the request fails, nothing hangs or crashes, and
# with reconnect-delay the next one works.

load ../lib/common
load ../lib/fake_nbd

lie() { # ACTION COMMAND...: the second request meets it; it fails, and the first and last work
    local action=$1 engine
    shift
    for engine in uring threads; do
        fake "$engine" --on "2:$action"
        BLKPROOF_ENGINE=$engine io 1 "$engine" "" 'read 0 512' "$@"
        failed 1 "${1%% *}"
        contains "$output" "read 512/512 bytes at offset 0"
        fake "again-$engine" --on "2:$action"
        BLKPROOF_ENGINE=$engine io 0 "again-$engine" ,reconnect-delay=30 'read 0 512' "$@" 'read 1024 512'
        contains "$output" "read 512/512 bytes at offset 1024"
        equal "$(requests "again-$engine" | grep -c ' read 1024 512$')" 1
    done
}

@test "closes instead of answering" {
    lie die 'read 512 512'
}

@test "closes in the middle of an answer" {
    lie mid 'read 512 512'
}

@test "answers noise" {
    lie garbage 'read 512 512'
}

@test "answers what nobody asked" {
    lie cookie 'read 512 512'
}

@test "sends more than was asked" {
    lie long 'read 512 512'
}

@test "sends data of another place" {
    lie outside 'read 512 512'
}

@test "leaves a part of the data out: that read fails, the connection lives" {
    fake s --on 2:short
    io 1 s "" 'read 0 512' 'read 512 512' 'read 1024 512'
    failed 1 read
    contains "$output" "read failed: Input/output error"
    equal "$(requests s | grep -c '^1 ')" 5 # three reads, flush, disc
}

@test "answers twice: the connection is given up" {
    fake s --on 1:twice
    io 0 s ,reconnect-delay=30 'write -P 3 0 512' 'read 0 512' 'read 512 512'
    equal "$(requests s | tail -n 1)" "2 disc 0 0"
}

@test "block status without an extent, or with an empty one" {
    fake s --on 1:noextent --on 3:extent=0:0
    io 1 s "" map # a status and, at the end, a flush
    contains "$output" "Input/output error"
    io 1 s "" map # a status and, at the end, a flush
    contains "$output" "Input/output error"
}

@test "an extent that is longer than the device ends with it" {
    fake s --on 1:extent=4294967295:3
    io 0 s "" map
    contains "$output" "1 MiB (0x100000) bytes"
}

@test "an extent that cuts a block counts as data where it cuts" {
    fake s --blocks 4096:4096:65536 --on 1:extent=1000:3 --on 2:extent=5000:3
    io 0 s "" map
    equal "$(requests s | head -n 3)" "1 status 0 1048576 req-one
1 status 4096 1044480 req-one
1 status 8192 1040384 req-one"
}
