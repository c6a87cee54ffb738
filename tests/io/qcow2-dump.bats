#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img dump: every structure of a qcow2 image with its place. img info and img dump open nothing but the image.

load ../lib/common

setup() { cd "$BATS_TEST_TMPDIR"; }

@test "a small image, structure by structure" {
    blkproof img create -q -f qcow2 -o cluster_size=4k,compat=0.10 x 64k
    blkproof io -f qcow2 -c 'write -q 8k 4k' x
    expect 0 blkproof img dump x
    # clusters: 0 header, 1 refcount table, 2 refcount block, 3 L1 table, 4 L2 table, 5 data
    equal "$out" "0x00000000 qcow2 header: magic 0x514649fb, version 2, backing_file_offset 0, backing_file_size 0, \
cluster_bits 12, size 65536, crypt_method none, l1_size 1, l1_table_offset 12288, refcount_table_offset 4096, \
refcount_table_clusters 1, nb_snapshots 0, snapshots_offset 0
0x00000048 header extension 0: type 0x0, length 0
0x00001000 refcount table entry 0: offset 8192
0x00002000 refcount 0: count 1, cluster_offset 0
0x00002002 refcount 1: count 1, cluster_offset 4096
0x00002004 refcount 2: count 1, cluster_offset 8192
0x00002006 refcount 3: count 1, cluster_offset 12288
0x00002008 refcount 4: count 1, cluster_offset 16384
0x0000200a refcount 5: count 1, cluster_offset 20480
0x00003000 L1 entry 0: offset 16384, copied 1
0x00004010 L2 entry 2: offset 20480, zero 0, compressed 0, copied 1, guest_offset 8192"
}

@test "as JSON, every line an object" {
    blkproof img create -q -f qcow2 x 1M
    blkproof img dump --output=json x >out.json
    python3 - <<'PY'
import json
items = json.load(open("out.json"))
assert items[0]["structure"] == "qcow2 header", items[0]
assert items[0]["fields"]["size"] == 1 << 20
names = [i["fields"]["name"] for i in items if i["structure"] == "feature name"]
assert names[0] == "dirty bit" and len(names) == 8, names
assert [i["offset"] for i in items if i["structure"] == "refcount"] == [0x20000, 0x20002, 0x20004, 0x20006]
PY
}

@test "text of a hostile image does not reach the terminal as it is" {
    blkproof img create -q -f qcow2 x 1M
    printf '\x1b[2J' | dd of=x bs=1 seek=$((0x7a)) conv=notrunc status=none
    expect 0 blkproof img dump x
    lacks "$out" $'\e'
    contains "$out" '\u001B[2J'
}

@test "damage does not keep it from telling" {
    blkproof img create -q -f qcow2 x 1M
    printf '\xff\xff\xff\xff\xff\xff\xfe\x00' | dd of=x bs=1 seek=$((0x30000)) conv=notrunc status=none
    printf '\xff\xff\xff\xff\xff\xff\xfe\x00' | dd of=x bs=1 seek=$((0x10008)) conv=notrunc status=none
    expect 0 blkproof img dump x
    contains "$out" "0x00030000 L1 entry 0: offset 72057594037927424, copied 1"
    contains "$out" "0x00010008 refcount table entry 1: offset 0xfffffffffffffe00"
}

@test "what has no structures" {
    truncate -s 1M x
    expect 1 blkproof img dump -f raw x
    equal "$err" "blkproof: x: the format 'raw' has no structures to dump"
    expect 1 blkproof img dump -f qcow2 x
    contains "$err" "Image is not in qcow2 format"
    expect 2 blkproof img dump
}

@test "info and dump open neither data file nor backing file" {
    need strace
    blkproof img create -q -f qcow2 -o data_file=d.raw x 1M
    rm d.raw
    expect 0 blkproof img dump x
    contains "$out" "data file name: text d.raw"
    expect 0 blkproof img info x
    contains "$out" "data file: d.raw"
    touch d.raw
    # the leak check does not work under strace
    ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0 strace -f -e trace=openat -o trace blkproof img info --engine=threads x >info
    ! grep -q 'd\.raw' trace || fail "$(grep 'd\.raw' trace)"
}
