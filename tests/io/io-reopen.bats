#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# reopen: what it keeps, and what is left when it cannot be done.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 64k a.raw
}

@test "what is only in memory survives another mode" {
    expect 0 blkproof io --image-opts -c 'write -q -P 7 0 4k' -c 'reopen -r' -c 'read -q -P 7 0 4k' -c 'reopen -w' \
        -c 'reopen -c unsafe' -c 'read -q -P 7 0 4k' driver=mem,size=64k
    equal "$out$err" ""
}

@test "read-only refuses, writable allows again" {
    expect 1 blkproof io -f raw -c 'reopen -r' -c 'write -q 0 512' -c 'reopen -w' -c 'write -q -P 9 0 512' a.raw
    equal "$err" "blkproof: Block node is read-only"
    equal "$(hex a.raw 0 4)" "09090909"
}

@test "a request in the background is done before" {
    expect 0 blkproof io -f raw -c 'aio_write -q -P 9 0 4k' -c 'reopen -c none' -c 'read -q -P 9 0 4k' a.raw
    equal "$out$err" ""
}

@test "an image that is gone: both reasons, and the program goes on" {
    mkfifo pipe
    blkproof io -f raw a.raw <pipe >out 2>err &
    local p=$!
    exec 7>pipe
    echo length >&7
    wait_for_line out '64 KiB'
    rm a.raw
    printf 'reopen -c none\nlength\nhelp quit\n' >&7
    exec 7>&-
    local status=0
    wait $p || status=$?
    equal "$status" 1
    contains "$(<err)" "No such file or directory"
    contains "$(<err)" "no file open, try 'help open'"
    contains "$(<out)" "quit -- exit the program"
}
