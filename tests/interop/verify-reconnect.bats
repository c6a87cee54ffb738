#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A server under test that dies and comes back may have lost what was not flushed, and nothing else.
load ../lib/common

setup() {
    need nbdsh qemu-nbd
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M raw.img test.img
    qemu_nbd t -f raw test.img
    serve v "json:{\"driver\":\"blkverify\",\"on-mismatch\":\"report\",\"raw\":{\"driver\":\"file\",\"filename\":\"raw.img\"},\"test\":{\"driver\":\"nbd\",\"server\":{\"type\":\"unix\",\"path\":\"$(sock t)\"},\"reconnect-delay\":20}}"
    sh_v 'h.pwrite(b"a"*8192, 0); h.flush()'
    cp test.img flushed.img
    sh_v 'h.pwrite(b"b"*4096, 0)' # never flushed
}

sh_v() {
    expect 0 nbdsh -u "$(uri v)" -c "$1"
}

# The server dies, and finds FILE when it comes back.
die_and_come_back_with() {
    kill -KILL "$(pid t)"
    reap t || true
    rm -f "$(sock t)"
    cat "$1" >test.img
    qemu_nbd t -f raw test.img
}

@test "what was not flushed may be lost: no alarm, and what was shown is in the raw copy" {
    die_and_come_back_with flushed.img
    sh_v 'assert h.pread(8192, 0) == b"a"*8192'
    lacks "$(cat v.err)" blkverify:
    equal "$(hex raw.img 0 4)" 61616161
    expect 0 stop v
}

@test "what was not flushed may be kept: no alarm" {
    cp test.img all.img
    die_and_come_back_with all.img
    sh_v 'assert h.pread(8192, 0) == b"b"*4096 + b"a"*4096'
    lacks "$(cat v.err)" blkverify:
    expect 0 stop v
}

@test "what was flushed may not be lost" {
    truncate -s 1M empty.img
    die_and_come_back_with empty.img
    sh_v 'h.pread(8192, 0)'
    contains "$(cat v.err)" "blkverify: read sector_num=0 nb_sectors=16 contents mismatch in sector 0"
    expect 1 stop v
}

@test "what was lost once and written again may not be lost without another death" {
    die_and_come_back_with flushed.img
    sh_v 'h.pread(8192, 0); h.pwrite(b"c"*4096, 0)'
    dd if=flushed.img of=test.img bs=4096 count=1 conv=notrunc status=none
    sh_v 'h.pread(8192, 0)'
    contains "$(cat v.err)" "contents mismatch in sector 0"
    contains "$(cat v.err)" "lost write"
    expect 1 stop v
}
