#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A connection that is lost and found again: with reconnect-delay requests wait and are sent again, as
# with QEMU; without, they fail. What comes back must be the same device.

load ../lib/common
load ../lib/fake_nbd

each_engine() { # FUNCTION
    local engine
    for engine in uring threads; do
        BLKPROOF_ENGINE=$engine "$1" "$engine"
    done
}

@test "requests under way are sent again over the next connection" {
    case_() {
        fake "$1" --on 3:die
        io 0 "$1" ,reconnect-delay=30 'write -P 1 0 64k' 'write -P 2 64k 64k' 'aio_read -P 1 0 64k' \
            'aio_read -P 2 64k 64k' 'aio_write -P 3 128k 64k' aio_flush 'read -P 3 128k 64k'
        lacks "$output" failed
        equal "$(requests "$1" | grep -c '^2 ')" 6 "requests on the second connection"
        equal "$(grep -c 'connection is lost' <<<"$err")" 1 "warnings"
    }
    each_engine case_
}

@test "without reconnect-delay requests under way fail, and later ones work when the server is back" {
    case_() {
        fake "$1" --on 1:die
        io 1 "$1" "" 'read 0 512' 'sleep 100' 'read 512 512'
        failed 1 read
        contains "$output" "read 512/512 bytes at offset 512"
    }
    each_engine case_
}

@test "a server that is gone for good: requests fail when reconnect-delay is over" {
    case_() {
        fake "$1" --on 2:exit
        io 1 "$1" ,reconnect-delay=300ms 'read 0 512' 'read 512 512' 'write 0 512'
        failed 1 read
        failed 1 write
    }
    each_engine case_
}

@test "a server that is started again within reconnect-delay" {
    fake s --on 2:exit
    (   # once it has ended, start the next one on the same socket
        wait_until "the end of the server" ended "$(pid s)"
        exec python3 "$TOP/tests/lib/fake_nbd.py" --log "$BATS_TEST_TMPDIR/s.log" "$(sock s)"
    ) >/dev/null 2>&1 3>&- &
    BG_PID[next]=$!
    io 0 s ,reconnect-delay=30 'read 0 512' 'read 512 512' 'read 1k 512'
    lacks "$output" failed
}

@test "a stopped server that goes on within reconnect-delay: what had not timed out is sent again" {
    fake s --on 2:freeze --handshake ok,silent,ok
    io 0 s ,reconnect-delay=30,connect-timeout=200ms,request-timeout=1 'read 0 512' 'aio_read 512 512' 'sleep 300' \
        'aio_read 1024 512' aio_flush
    failed 1 readv
    equal "$(requests s | grep '^3 ' | head -n 1)" "3 read 1024 512"
}

@test "a server that dies of every request: the request fails after five" {
    fake s --on 2+:die
    io 1 s ,reconnect-delay=30 'read 0 512' 'read 512 512' 'quit'
    failed 1 read
    equal "$(requests s | grep -c 'read 512 512')" 5
}

@test "it comes back with another size: not used any more" {
    fake s --on 1:die --size 1048576,2097152
    io 1 s ,reconnect-delay=30 'read 0 512' 'read 0 512' 'write 0 512'
    failed 2 read
    failed 1 write
    contains "$err" "came back with another size: 2097152 bytes, and it had 1048576: it is not used any more"
    equal "$(requests s | grep -c '^[2-9] [a-z]* [0-9]* [1-9]')" 0 "requests after it"
}

@test "it comes back read-only" {
    fake s --on 1:die --flags all,ro+flush+fua
    io 1 s ,reconnect-delay=30 'read 0 512'
    contains "$err" "came back read-only"
}

@test "it comes back without flush, or without FUA" {
    fake s --on 1:die --flags all,fua
    io 1 s ,reconnect-delay=30 'read 0 512'
    contains "$err" "came back without flush"
    fake t --on 1:die --flags all,flush
    io 1 t ,reconnect-delay=30 'read 0 512'
    contains "$err" "came back without FUA"
}

@test "it comes back without trim and zero: what uses them goes on without" {
    fake s --on 1:die --flags all,flush+fua
    io 0 s ,reconnect-delay=30 'read 0 512' 'write -P 7 0 4k' 'write -z 0 512' 'read -P 0 0 512' 'read -P 7 512 512' 'discard 0 4k'
    lacks "$output" failed
}

@test "the export is missing for a while after a restart" {
    fake s --on 1:die --handshake ok,refuse,close,garbage,ok
    io 0 s ,reconnect-delay=30 'read 0 512'
    equal "$(requests s | tail -n 1)" "5 disc 0 0"
}

@test "closing does not wait for a connection that is not there" {
    fake s --on 2:exit
    io 1 s "" 'read 0 512' 'read 512 512'
    fake t --handshake ok,silent --on 2:die
    io 1 t ,connect-timeout=0 'read 0 512' 'read 512 512'
}

@test "verify: writes that were not flushed may be lost in a restart, and that is no mismatch" {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M raw.img
    fake s --volatile --on 4:die
    expect 0 timeout 60 blkproof io -t writeback -c 'write -P 1 0 4k' -c 'flush' -c 'write -P 2 0 4k' \
        -c 'read 0 4k' -c 'read -P 1 0 4k' \
        "json:{\"driver\":\"blkverify\",\"raw\":{\"driver\":\"file\",\"filename\":\"raw.img\"},\"test\":{\"driver\":\"nbd\",\"path\":\"$(sock s)\",\"reconnect-delay\":30}}"
    lacks "$output" mismatch
}

@test "verify: flushed writes that are lost in a restart are a mismatch" {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M raw.img
    # the server forgets the write it has acknowledged as flushed: its flush is request 2, answered with
    # success and without the deed
    fake s --volatile --on 2:lie --on 3:die
    expect 1 timeout 60 blkproof io -t writeback -c 'write -P 1 0 4k' -c 'flush' -c 'read 0 4k' \
        "json:{\"driver\":\"blkverify\",\"raw\":{\"driver\":\"file\",\"filename\":\"raw.img\"},\"test\":{\"driver\":\"nbd\",\"path\":\"$(sock s)\",\"reconnect-delay\":30}}"
    contains "$err" "blkverify: read sector_num=0 nb_sectors=8 contents mismatch in sector 0"
}
