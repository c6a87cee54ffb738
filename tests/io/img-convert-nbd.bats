#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img convert from and to NBD servers: block status, zeroes, errors, salvage.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    need nbdkit
    pattern_file data.img $((2 * 1024 * 1024))
}

@test "from a server, to a server, and back" {
    nbdkit_serve src file data.img
    nbdkit_serve dst memory 2M
    expect 0 blkproof img convert -f raw "$(uri src)" copy.img
    cmp data.img copy.img
    expect 0 blkproof img convert -n -f raw -O raw copy.img "$(uri dst)"
    expect 0 blkproof img convert -f raw "$(uri dst)" back.img
    cmp data.img back.img
}

@test "without -n a server that is large enough will do" {
    nbdkit_serve dst memory 3M
    nbdkit_serve small memory 1M
    expect 0 blkproof img convert -f raw data.img "$(uri dst)"
    expect 0 blkproof img compare -f raw -F raw data.img "$(uri dst)"
    expect 1 blkproof img convert -f raw data.img "$(uri small)"
    contains "$err" "2097152"
}

@test "old content of a server is overwritten by the source's holes" {
    truncate -s 2M hole.img
    cp data.img old.img
    nbdkit_serve dst file old.img
    expect 0 blkproof img convert -n -f raw hole.img "$(uri dst)"
    cmp hole.img old.img
}

@test "a full device: one sentence and 1" {
    nbdkit_serve dst full 2M
    expect 1 blkproof img convert -n -f raw data.img "$(uri dst)"
    matches "$err" '^blkproof: error while writing at byte [0-9]+: No space left on device$'
}

@test "a read error ends it; with --salvage the bad sectors become zeroes" {
    # sectors 100 to 102 cannot be read
    nbdkit_serve src eval get_size='echo 2M' \
        pread='if [ $(($4)) -lt $((103 * 512)) ] && [ $(($4 + $3)) -gt $((100 * 512)) ]; then
                   echo EIO bad sector >&2; exit 1; fi
               dd if=data.img bs=512 skip=$(($4 / 512)) count=$(($3 / 512)) status=none'
    expect 1 blkproof img convert -f raw "$(uri src)" copy.img
    matches "$err" '^blkproof: error while reading at byte 0: Input/output error$'
    [ ! -e copy.img ]
    expect 0 blkproof img convert --salvage -f raw "$(uri src)" copy.img
    equal "$err" "$(for s in 100 101 102; do
        echo "blkproof: warning: error while reading offset $((s * 512)): Input/output error"; done)" "warnings"
    cp data.img want.img
    dd if=/dev/zero of=want.img bs=512 seek=100 count=3 conv=notrunc status=none
    cmp want.img copy.img
}

@test "no server: one sentence and 1" {
    expect 1 blkproof img convert -f raw "nbd+unix:///?socket=$BATS_TEST_TMPDIR/none" copy.img
    equal "$(wc -l <<<"$err")" 1
    contains "$err" "No such file or directory"
    [ ! -e copy.img ]
}
