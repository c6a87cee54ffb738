#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The tutorial of blkverify (QEMU, docs/devel/testing/blkverify.rst), word for word with our names: a
# raw image with 0xcd in sector 0, and a test image that lost it.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 64k raw.img test.img
    perl -e 'print "\xcd" x 512' | dd of=raw.img conv=notrunc status=none
}

@test "the raw image holds the pattern: read -v dumps it" {
    expect 0 blkproof io -c 'read -v 0 512' raw.img
    local want="" i
    for ((i = 0; i < 512; i += 16)); do
        want+=$(printf '%08x:  cd cd cd cd cd cd cd cd cd cd cd cd cd cd cd cd  ................' "$i")$'\n'
    done
    equal "$(head -n 32 <<<"$out")" "${want%$'\n'}"
    equal "$(sed -n 33p <<<"$out")" "read 512/512 bytes at offset 0"
    matches "$(sed -n 34p <<<"$out")" '^512 bytes, 1 ops; [0-9.]+ sec \([0-9.]+ [a-zA-Z]+/sec and [0-9.]+ ops/sec\)$'
    equal "$err" ""
}

@test "the test image lost it: the first line of the report is blkverify's own, the status 1" {
    expect 1 blkproof io -c 'read 0 512' blkverify:raw.img:test.img
    equal "$(head -n 1 <<<"$err")" "blkverify: read sector_num=0 nb_sectors=1 contents mismatch in sector 0"
    equal "$out" ""
}

@test "what follows says what was expected and what came" {
    expect 1 blkproof io -c 'read 0 512' blkverify:raw.img:test.img
    matches "$err" '0x0000000000  (cd ){16}\*\| (00 ?){16}'
    contains "$err" "diagnosis: all zero"
}

@test "once written through the verifier, the same read is fine" {
    expect 0 blkproof io -c 'write -P 0xcd 0 512' -c 'read -P 0xcd 0 512' blkverify:raw.img:test.img
    equal "$(grep -c bytes\ at <<<"$out")" 2
    equal "$err" ""
    cmp raw.img test.img
}

@test "the same images with the test device on top of a format, options as JSON" {
    expect 1 blkproof io -c 'read 0 512' \
        'json:{"driver":"blkverify","raw":{"driver":"file","filename":"raw.img"},"test":{"driver":"raw","file":{"driver":"file","filename":"test.img"}}}'
    equal "$(head -n 1 <<<"$err")" "blkverify: read sector_num=0 nb_sectors=1 contents mismatch in sector 0"
}
