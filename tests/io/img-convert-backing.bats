#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# img convert into an overlay: the backing file never shows through where the source has zeroes.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M base.raw zero.raw
    blkproof io -f raw -c 'write -q -P 7 0 1M' base.raw
}

@test "zeroes of the source cover the backing file's data" {
    expect 0 blkproof img convert -O qcow2 -B base.raw -F raw -f raw zero.raw b.qcow2
    expect 0 blkproof img compare -F raw b.qcow2 zero.raw
    expect 0 blkproof img convert -O qcow2 -o backing_file=base.raw,backing_fmt=raw -f raw zero.raw o.qcow2
    expect 0 blkproof img compare -F raw o.qcow2 zero.raw
    expect 0 blkproof img info b.qcow2
    contains "$out" "backing file: base.raw"
    contains "$out" "backing file format: raw"
}

@test "what the source has from its backing file is not copied" {
    blkproof img create -q -f qcow2 -b base.raw -F raw src.qcow2
    blkproof io -f qcow2 -c 'write -q -P 9 256k 64k' -c 'write -q -z 512k 64k' src.qcow2
    expect 0 blkproof img convert -O qcow2 -B base.raw -F raw src.qcow2 dst.qcow2
    expect 0 blkproof img compare src.qcow2 dst.qcow2
    expect 0 blkproof io -r -c 'alloc 0 1M' dst.qcow2
    equal "$out" "131072/1048576 bytes allocated at offset 0 bytes" # 64 KiB of nines, 64 KiB of zeroes
}

@test "-B with the format given by -o" {
    expect 0 blkproof img convert -O qcow2 -B base.raw -o backing_fmt=raw -f raw zero.raw b.qcow2
    expect 0 blkproof img compare -F raw b.qcow2 zero.raw
    expect 0 blkproof img info b.qcow2
    contains "$out" "backing file format: raw"
}

@test "map of an image larger than its backing file" {
    blkproof img create -q -f qcow2 -b base.raw -F raw mid.qcow2 2M
    blkproof img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 3M
    expect 0 blkproof img map --output json top.qcow2
    equal "$(sed -E 's/.*"start": ([0-9]+), "length": ([0-9]+), "depth": ([0-9]+), .*"zero": ([a-z]+).*/\1 \2 \3 \4/' \
        <<<"$out")" "0 1048576 2 false"$'\n'"1048576 1048576 1 true"$'\n'"2097152 1048576 0 true"
}

@test "options that do not go together" {
    expect 1 blkproof img convert -O qcow2 -B base.raw -F raw zero.raw zero.raw x.qcow2
    contains "$err" "Having a backing file for the target makes no sense when concatenating"
    expect 1 blkproof img convert -O qcow2 -o backing_file=base.raw,backing_fmt=raw zero.raw zero.raw x.qcow2
    contains "$err" "Having a backing file for the target makes no sense when concatenating"
    expect 1 blkproof img convert -O qcow2 -B base.raw zero.raw x.qcow2
    equal "$err" "blkproof: Use of backing file requires explicit backing format"
    expect 1 blkproof img convert -O qcow2 -F raw zero.raw x.qcow2
    equal "$err" "blkproof: Backing format cannot be used without backing file"
    expect 1 blkproof img convert -O raw -B base.raw -F raw zero.raw x.raw
    equal "$err" "blkproof: Backing file not supported for file format 'raw'"
    [ ! -e x.qcow2 ] && [ ! -e x.raw ]
}
