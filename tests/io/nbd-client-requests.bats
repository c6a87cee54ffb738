#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# What the NBD client says to a server, as the server saw it: which commands and flags, cut to which
# sizes, and what it does where the server lacks a command.

load ../lib/common
load ../lib/fake_nbd

said() { # EXPECTED: the requests of the only connection, without the last flush and disconnect
    equal "$(requests s | sed 's/^1 //' | head -n -2)" "$1" requests
    equal "$(requests s | tail -n 2 | tr '\n' ' ')" "1 flush 0 0 1 disc 0 0 "
}

@test "each command with its flags" {
    fake s
    io 0 s ,discard=unmap 'write -P 7 512 4k' 'read -P 7 1k 512' 'write -f 0 1k' 'write -z 0 4k' 'write -z -u 4k 4k' \
        'write -z -f 8k 4k' 'discard 0 8k' 'flush'
    said "write 512 4096
read 1024 512
write 0 1024 fua
zero 0 4096 no-hole
zero 4096 4096
zero 8192 4096 fua+no-hole
trim 0 8192
flush 0 0"
}

@test "a request of several buffers is one command, and each buffer gets its bytes" {
    fake s
    io 0 s "" 'write -P 1 0 512' 'write -P 2 512 1024' 'write -P 3 1536 512' 'readv -v 0 512 1024 512' \
        'writev -P 9 4k 512 512' 'read -P 9 4k 1k'
    equal "$(requests s | grep -c 'read 0 2048$')" 1
    equal "$(requests s | grep -c 'write 4096 1024$')" 1
    equal "$(grep -c '^00000[0-9a-f]*:  01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 ' <<<"$out")" 32
    equal "$(grep -c '^00000[0-9a-f]*:  02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 ' <<<"$out")" 64
    equal "$(grep -c '^00000[0-9a-f]*:  03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 ' <<<"$out")" 32
}

@test "a long request of many short buffers goes in copies of 2 MiB, one of long buffers without" {
    fake s --size $((4 << 20))
    local short=$(printf '100000 %.0s' {1..31}) # 3,100,000 bytes
    io 0 s "" 'write -P 5 0 4M' "readv -P 5 0 $short" "writev -P 6 0 $short" 'read -P 6 0 3100000' \
        'readv -P 5 3100160 300000 300000'
    said "write 0 4194304
read 0 2097152
read 2097152 1002848
write 0 2097152
write 2097152 1002848
read 0 3100000
read 3100160 300000
read 3400160 300000"
}

@test "a server's block sizes: smaller requests are widened, larger ones are cut" {
    fake s --blocks 4096:4096:65536
    io 0 s "" 'write -P 5 512 512' 'read 0 160k'
    said "read 0 4096
write 0 4096
read 0 65536
read 65536 65536
read 131072 32768"
}

@test "without block sizes, requests are cut at 32 MiB" {
    fake s --size $((40 << 20))
    io 0 s "" 'read 0 40M'
    said "read 0 33554432
read 33554432 8388608"
}

@test "a server without structured replies: sectors, and no block status" {
    fake s --simple
    io 0 s "" 'write -P 5 100 300' 'read -P 5 100 300' 'map'
    said "read 0 512
write 0 512
read 0 512"
    contains "$out" "1 MiB (0x100000) bytes     allocated at offset 0 bytes (0x0)"
}

@test "a server that knows only to read and write" {
    fake s --flags ""
    io 0 s ,discard=unmap 'write -P 5 0 8k' 'write -z 0 4k' 'read -P 0 0 4k' 'read -P 5 4k 4k' 'write -f 0 512' 'discard 0 4k' flush
    equal "$(requests s | grep -vE '^1 (read|write [0-9]+ [0-9]+|disc)')" "" "requests beyond read and write"
}

@test "without FUA it is a write and a flush" {
    fake s --flags flush
    io 0 s "" 'write -f 0 512'
    said "write 0 512
flush 0 0"
}

@test "with discard off, a discard stays here" {
    fake s
    expect 0 timeout 60 blkproof io -d off -f raw -c 'discard 0 4k' "nbd:unix:$(sock s)"
    equal "$(requests s | grep -c trim)" 0
}

@test "block status: holes and zeroes as the server tells" {
    fake s --on 1:extent=4096:3 --on 2:extent=4096:0 --on 3:extent=9999999:2
    io 0 s "" map
    said "status 0 1048576 req-one
status 4096 1044480 req-one
status 8192 1040384 req-one"
}

@test "an error of the server is that error, and the connection lives" {
    fake s --on 1:error=28 --on 2:error=1 --on 3:error=95 --on 4:error=77
    io 1 s "" 'write 0 512' 'write 0 512' 'write 0 512' 'write 0 512' 'write 0 512'
    equal "$(grep failed <<<"$output")" "write failed: No space left on device
write failed: Operation not permitted
write failed: Operation not supported
write failed: Invalid argument"
    said "$(printf 'write 0 512\n%.0s' 1 2 3 4 5)"
}

@test "an NBD device cannot be resized" {
    fake s
    io 1 s "" 'truncate 2M'
    contains "$output" "Operation not supported"
    io 0 s "" 'truncate 1M'
}

@test "the name of an open node can be opened again" {
    fake s
    expect 0 timeout 60 blkproof img info -f raw "nbd:unix:$(sock s):exportname=a b"
    matches "$out" "image: (nbd\+unix:///a%20b\?socket=$(sock s))"
    expect 0 timeout 60 blkproof io -f raw -c 'read 0 512' "${BASH_REMATCH[1]}"
}
