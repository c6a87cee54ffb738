#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A client that is killed in the middle of its writes: what it had sent is on both sides or on neither.

load ../lib/common

setup() {
    need nbdcopy nbdsh
    cd "$BATS_TEST_TMPDIR"
    truncate -s 64M raw.img test.img
    pattern_file data.img 67108864
}

written() {
    [ "$(stat -c %b test.img)" -gt 2048 ] # blocks of 512 bytes
}

@test "a client killed in the middle leaves both sides equal" {
    serve s blkverify:raw.img:test.img
    bg client nbdcopy --requests=16 data.img "$(uri s)"
    wait_until "some of the writes" written
    kill -KILL "$(pid client)"
    reap client || true
    expect 0 nbdsh -u "$(uri s)" -c 'h.pread(4096, 0)'
    expect 0 stop s
    equal "$(cat s.err)" ""
    cmp raw.img test.img
}
