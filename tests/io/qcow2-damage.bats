#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Damage that is met while the image is in use: what is told, what goes on, and what is refused. The sentences
# are QEMU's (its iotest 060 has them all).

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    blkproof img create -q -f qcow2 -o cluster_size=64k a.qcow2 64M
    blkproof io -f qcow2 -c 'write -q -P 1 0 128k' a.qcow2
    reftable=65536 refblock=131072
    l1=$((0x$(hex a.qcow2 40 8)))
    l2=$((0x$(hex a.qcow2 $l1 8) & 0x00fffffffffffe00))
}

# poke OFFSET NUMBER: as 8 bytes
poke() { python3 -c 'import os, sys; f = os.open("a.qcow2", os.O_WRONLY)
os.pwrite(f, int(sys.argv[2], 0).to_bytes(8, "big"), int(sys.argv[1]))' "$1" "$2"; }

@test "a cluster whose place cannot be right is discarded all the same, and the image lives on" {
    poke $l2 0x8000000000052a00
    expect 0 blkproof io -d unmap -f qcow2 -c 'discard 0 64k' -c 'read -P 0 0 64k' -c 'write -P 2 0 64k' \
        -c 'read -P 1 64k 64k' a.qcow2
    contains "$err" "Image is corrupt: Cannot free unaligned cluster 0x52a00; further non-fatal"
    expect 0 blkproof img info a.qcow2
    contains "$out" "corrupt: false"
    expect 0 blkproof io -f qcow2 -c 'read -q -P 2 0 64k' a.qcow2
}

@test "a write into a cluster whose place cannot be right" {
    poke $l2 0x8000000000002a01
    expect 1 blkproof io -f qcow2 -c 'write 0 64k' a.qcow2
    contains "$err" "Marking image as corrupt: Preallocated zero cluster offset 0x2a00 unaligned (guest offset: 0);"
    expect 0 blkproof img check -r all a.qcow2
    contains "$out$err" "Preallocated cluster is not properly aligned; L2 entry corrupted"
    contains "$out" "    1 corruptions" # the header, where it seemed to lie, is nobody else's
}

@test "amend does not turn such a one into data" {
    poke $l2 0x8000000000052a01
    expect 1 blkproof img amend -o compat=0.10 a.qcow2
    contains "$err" "Cluster allocation offset 0x52a00 unaligned (L2 offset: $(printf %#x $l2), L2 index: 0)"
    contains "$err" "Failed to turn zero into data clusters: Input/output error"
}

@test "a discard whose refcounts cannot be found fails, and changes nothing" {
    poke $reftable 0x2a00
    expect 1 blkproof io -f qcow2 -c 'discard 0 64k' a.qcow2
    contains "$err" "Marking image as corrupt: Refblock offset 0x2a00 unaligned (reftable index: 0)"
    contains "$out" "discard failed"
    expect 0 blkproof img check -r all a.qcow2
    expect 0 blkproof io -f qcow2 -c 'read -q -P 1 0 128k' a.qcow2
    equal "$output" ""
}

@test "a refcount block behind the end of the file" {
    poke $reftable 0x10000000000
    expect 1 blkproof io -f qcow2 -c 'write 1M 64k' a.qcow2
    contains "$err" "Refblock offset 0x10000000000 is behind the end of the file (reftable index: 0)"
}

@test "an image whose refcount blocks are not counted is not made smaller" {
    poke $((reftable + 8)) 0x00ffffff00000000
    expect 1 blkproof img resize --shrink a.qcow2 32M
    contains "$err" "Refblock at 0xffffff00000000 is not covered by the refcount structures"
    contains "$err" "Failed to discard unused refblocks: Input/output error"
    expect 0 blkproof img info a.qcow2
    contains "$out" "virtual size: 64 MiB"
    expect 0 blkproof img check -r all a.qcow2
    expect 0 blkproof img resize --shrink a.qcow2 32M
    expect 0 blkproof img check a.qcow2
}
