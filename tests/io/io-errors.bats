#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# What cannot be done: one sentence under the program's own name, exit 1, or 2 if the command line made no sense.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 64k a.raw
}

says() { # STATUS SENTENCE ARG...
    local status=$1 sentence=$2
    shift 2
    expect "$status" blkproof io "$@"
    equal "$err" "$sentence"
    equal "$out" ""
}

@test "a missing file, an unknown format, unknown protocol" {
    says 1 "blkproof: can't open device nosuch: Could not open 'nosuch': No such file or directory" nosuch
    says 1 "blkproof: can't open device a.raw: Unknown driver 'foo'" -f foo a.raw
    says 1 "blkproof: can't open device foo:a.raw: Unknown protocol 'foo'" foo:a.raw
}

@test "wrong options: status 2" {
    says 2 "blkproof: Invalid cache option: foo" -t foo a.raw
    says 2 "blkproof: Invalid discard option: foo" -d foo a.raw
    says 2 "blkproof: Invalid aio option: foo" -i foo a.raw
    says 2 "blkproof: --image-opts and -f are mutually exclusive" -f raw --image-opts a.raw
    says 2 $'blkproof: unrecognized option \'--foo\'\nSee \'blkproof io --help\'.' --foo
    says 2 $'blkproof: one file at most, but \'b\' comes behind \'a.raw\'\nSee \'blkproof io --help\'.' a.raw b
    says 2 "blkproof: '-1' is not a seed: a number from 0 to 2^63 - 1 was expected" --seed=-1 a.raw
    says 2 "blkproof: --on-mismatch: 'foo' is not stop, error or report (pause is for blkproof serve)" --on-mismatch=foo a.raw
}

@test "an unknown engine" {
    expect 1 blkproof io --engine=foo -c length a.raw
    contains "$err" "foo"
    equal "$(wc -l <<<"$err")" 1
}

@test "-s: the folder for the overlay is not there" {
    expect 1 env TMPDIR="$BATS_TEST_TMPDIR/none" blkproof io -s -c length a.raw
    equal "$(wc -l <<<"$err")" 1
    contains "$err" "$BATS_TEST_TMPDIR/none"
}

@test "on-mismatch=pause is refused: nobody could let the request go" {
    expect 1 blkproof io -c length \
        'json:{"driver":"blkverify","on-mismatch":"pause","raw":{"driver":"file","filename":"a.raw"},"test":{"driver":"mem","size":65536}}'
    contains "$err" "on-mismatch=pause"
}

@test "a verb that is none, and none at all" {
    expect 2 blkproof foo
    equal "$err" "blkproof: unknown verb 'foo' (see 'blkproof --help')"
    expect 2 blkproof
    equal "$err" "blkproof: a verb is missing (see 'blkproof --help')"
    expect 2 blkproof help foo
    equal "$err" "blkproof: unknown verb 'foo' (see 'blkproof --help')"
}

@test "help and versions" {
    expect 0 blkproof --version
    matches "$out" '^blkproof version [0-9.]+$'
    expect 0 blkproof io --version
    matches "$out" '^blkproof version [0-9.]+$'
    expect 0 blkproof help io
    contains "$out" "Usage: blkproof io "
    expect 0 blkproof --engine=threads io -c length a.raw -f raw
    equal "$out" "64 KiB"
}

@test "results that cannot be printed are not a success" {
    [ -e /dev/full ] || skip "no /dev/full"
    run bash -c "blkproof io -c help >/dev/full"
    equal "$status" 1
    contains "$output" "No space left on device"
}

@test "wait_break and zones: not supported, no waiting" {
    local c
    for c in 'wait_break A' 'zone_report 0 1' 'zrp 0 1' 'zo 0 1' 'zc 0 1' 'zf 0 1' 'zrs 0 1' 'zap 0 4k 4k'; do
        expect 1 blkproof io -f raw -c "$c" a.raw
        matches "$out" '^(Could not|zone (report|open|close|finish|reset|append)) .*: Operation not supported$'
    done
    expect 1 blkproof io -f raw -c 'zrp 0 x' a.raw
    contains "$out" "Parsing error"
}

@test "hexadecimal numbers have no suffix (newer versions of QEMU; the installed one only warns)" {
    expect 1 blkproof io -f raw -c 'read 0x1k 512' a.raw
    equal "$out" "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- 0x1k"
}

@test "options of QEMU 8 and later: buffers that are registered" {
    expect 0 blkproof io -f raw -c 'write -r -q 0 512' -c 'read -rq 0 512' -c 'aio_read -rq 0 512' -c 'writev -rq 0 1 2' a.raw
    expect 1 blkproof io -f raw -c 'write -r -z 0 512' a.raw
    equal "$out" "cannot combine zero write with registered I/O buffer"
}
