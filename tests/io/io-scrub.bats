#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# The command scrub: the whole device against its reference.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    pattern_file raw.img 2097152
    cp raw.img test.img
}

@test "two sides that are alike" {
    expect 0 blkproof io -f raw -c scrub blkverify:raw.img:test.img
    equal "$out" "scrub: 2 MiB compared, 0 bytes skipped as holes on both sides, 0 mismatches"
    expect 0 blkproof io -f raw -c 'scrub -q' blkverify:raw.img:test.img
    equal "$out$err" ""
}

@test "one bit that no client has read" {
    flip_bit test.img 700000 3
    expect 1 blkproof io -f raw -c 'read -q 0 512' -c scrub -c length blkverify:raw.img:test.img
    matches "$err" '^blkverify: read sector_num=[0-9]+ nb_sectors=[0-9]+ contents mismatch in sector 1367' # 700000 / 512
    contains "$err" "one bit flipped"
    equal "$out" ""
}

@test "with on-mismatch=report it goes on to the end, and counts" {
    flip_bit test.img 700000 3
    flip_bit test.img 2000000 0 # a MiB later: two reads
    expect 1 blkproof io -f raw --on-mismatch=report -c scrub blkverify:raw.img:test.img
    equal "$out" "scrub: 2 MiB compared, 0 bytes skipped as holes on both sides, 2 mismatches"
}

@test "progress" {
    expect 0 blkproof io -f raw -c 'scrub -pq' blkverify:raw.img:test.img
    equal "$out" ""
    contains "$err" "(100.00/100%)"
}

@test "nothing to scrub, wrong options, not under the name qemu-io" {
    expect 1 blkproof io -f raw -c scrub raw.img
    equal "$out" "scrub: there is no verifier (blkverify) in this image"
    expect 1 blkproof io -f raw -c 'scrub -x' blkverify:raw.img:test.img
    expect 1 blkproof io -f raw -c 'scrub 1' blkverify:raw.img:test.img
    equal "$out" "scrub [-pq] -- compares the whole device with its reference"
    ln -s "$(command -v blkproof)" qemu-io
    expect 1 ./qemu-io -f raw -c scrub raw.img
    equal "$err" 'command "scrub" not found'
}
