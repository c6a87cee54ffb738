#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Started with standard files closed, the program does not take images for them: nothing that it prints ends up in one.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 64k a.raw ref.raw
}

blank() { # FILE...: each holds 64 KiB of zeroes
    local f
    for f; do
        cmp "$f" <(head -c 64k /dev/zero) || fail "$f was written to"
    done
}

@test "messages of io do not get into the image" {
    blkproof io -f raw -c foo -c 'read -v 0 512' a.raw <&- >&- 2>&- && fail "a wrong command and no error"
    blkproof io -f raw -c foo -c 'read -v 0 512' a.raw 2>&- >out && fail "a wrong command and no error"
    blkproof io -c foo -c 'read 0 512' blkverify:ref.raw:a.raw <&- >&- 2>&- && fail "a wrong command and no error"
    blank a.raw ref.raw
}

@test "what cannot be printed is an error" {
    expect 1 bash -c 'exec blkproof io -f raw -c "read 0 512" a.raw >&-'
    equal "$err" "blkproof: write to standard output: Bad file descriptor"
    expect 1 bash -c 'exec blkproof img info -f raw a.raw >/dev/full'
    equal "$err" "blkproof: write to standard output: No space left on device"
}

@test "img converts and serve serves without standard files" {
    printf hello | dd of=a.raw conv=notrunc status=none
    blkproof img convert -p -f raw -O raw a.raw b.raw <&- >&- 2>&- || true # -p prints, and cannot
    cmp a.raw b.raw
    blkproof serve -f raw a.raw --run 'nbdcopy "$uri" c.raw' <&- >&- 2>&- || true
    cmp a.raw c.raw
}
