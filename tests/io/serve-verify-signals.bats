#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# serve: SIGUSR1 releases what on-mismatch=pause holds, SIGUSR2 scrubs while clients go on.
load ../lib/common

setup() {
    need nbdsh
    cd "$BATS_TEST_TMPDIR"
    pattern_file raw.img 1048576
    cp raw.img test.img
}

device() { # MODE
    echo "json:{\"driver\":\"blkverify\",\"on-mismatch\":\"$1\",\"raw\":{\"driver\":\"file\",\"filename\":\"raw.img\"},\"test\":{\"driver\":\"file\",\"filename\":\"test.img\"}}"
}

@test "SIGUSR1 releases the held request: it gives the test device's data" {
    flip_bit test.img 70000 3
    serve s "$(device pause)"
    bg client nbdsh -u "$(uri s)" -c 'open("got", "wb").write(h.pread(4096, 69632))'
    wait_for_line s.err "remembered operation|nothing has been written"
    kill -USR1 "$(pid s)"
    reap client
    equal "$(hex got 0 4096)" "$(hex test.img 69632 4096)"
    expect 1 stop s
}

@test "SIGUSR2 scrubs: a difference that nobody read is reported, and the server goes on" {
    flip_bit test.img 1000000 0 # sector 1953
    serve s "$(device report)"
    kill -USR2 "$(pid s)"
    wait_for_line s.err "scrub of .*: 1048576 bytes compared, 0 in holes of both sides, 1 mismatches"
    contains "$(cat s.err)" "contents mismatch in sector 1953"
    expect 0 nbdsh -u "$(uri s)" -c 'h.pread(4096, 0)'
    expect 1 stop s
}

@test "SIGUSR2 on equal devices: no mismatch, and the status stays 0" {
    serve s "$(device stop)"
    kill -USR2 "$(pid s)"
    wait_for_line s.err "scrub of .* 0 mismatches"
    expect 0 stop s
}
