#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img compare: the first difference, whatever the order in which pieces are read; exit codes.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    pattern_file a.img $((9 * 1024 * 1024 + 512))
    cp a.img b.img
}

@test "identical" {
    expect 0 blkproof img compare a.img b.img
    equal "$output" "Images are identical."
    expect 0 blkproof img compare -q a.img b.img
    equal "$output" ""
}

@test "one bit, in every place that could be lost: ends of sectors and pieces, the last byte" {
    local at
    for at in 0 511 512 262143 262144 1048575 1048576 5000000 9437183 9437184 9437695; do
        flip_bit b.img "$at" 0
        expect 1 blkproof img compare a.img b.img
        equal "$output" "Content mismatch at offset $((at / 512 * 512))!"
        flip_bit b.img "$at" 0
    done
}

@test "of two differences the first is told" {
    flip_bit b.img 9000000 1
    flip_bit b.img 2097152 1
    expect 1 blkproof img compare a.img b.img
    equal "$output" "Content mismatch at offset 2097152!"
}

@test "a hole against data, data that is zero, and what is behind the end" {
    truncate -s 3M hole.img
    dd if=/dev/zero of=zero.img bs=1M count=3 status=none
    cp hole.img tail.img && printf x | dd of=tail.img bs=1 seek=2500000 conv=notrunc status=none
    truncate -s 1M short.img
    expect 0 blkproof img compare hole.img zero.img
    expect 1 blkproof img compare hole.img tail.img
    equal "$output" "Content mismatch at offset $((2500000 / 512 * 512))!"
    expect 0 blkproof img compare short.img zero.img
    equal "$output" "Warning: Image size mismatch!"$'\n'"Images are identical."
    expect 1 blkproof img compare tail.img short.img
    expect 1 blkproof img compare -s short.img zero.img
    equal "$output" "Strict mode: Image size mismatch!"
    expect 1 blkproof img compare -s hole.img zero.img
    equal "$output" "Strict mode: Offset 0 block status mismatch!"
}

@test "2 is for what cannot be opened, 4 for what cannot be read, with its offset and name" {
    need nbdkit
    expect 2 blkproof img compare a.img none.img
    equal "$err" "blkproof: Could not open 'none.img': No such file or directory"
    expect 2 blkproof img compare -T nonsense a.img b.img
    expect 2 blkproof img compare a.img
    nbdkit_serve bad eval get_size="echo $((9 * 1024 * 1024 + 512))" pread='echo EIO bad >&2; exit 1'
    expect 4 blkproof img compare -F raw a.img "$(uri bad)"
    equal "$err" "blkproof: Error while reading offset 0 of $(uri bad): Input/output error"
}

@test "the answer as JSON" {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M x.img
    truncate -s 2M y.img
    expect 0 blkproof img compare --output=json -f raw -F raw x.img x.img
    equal "$(tr -d ' \n' <<<"$output")" '{"identical":true,"same-size":true}'
    expect 0 blkproof img compare --output=json -f raw -F raw x.img y.img
    equal "$(tr -d ' \n' <<<"$output")" '{"identical":true,"same-size":false}'
    expect 1 blkproof img compare -s --output=json -f raw -F raw x.img y.img
    equal "$(tr -d ' \n' <<<"$output")" '{"identical":false,"same-size":false,"reason":"size"}'
    printf a | dd of=y.img bs=1 seek=5000 conv=notrunc status=none
    expect 1 blkproof img compare --output=json -f raw -F raw x.img y.img
    equal "$(tr -d ' \n' <<<"$output")" '{"identical":false,"same-size":false,"reason":"content","offset":4608}'
}
