#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A hostile L2 entry makes a guest's data land on the L2 table of a snapshot: overlap-check=all sees it.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    blkproof img create -q -f qcow2 -o cluster_size=64k a.img 1M
    blkproof io -f qcow2 -c 'write -q -P 1 0 64k' a.img
    blkproof img snapshot -c s a.img
    blkproof io -f qcow2 -c 'write -q -P 2 0 64k' a.img
    python3 - a.img <<'PY'
import struct
import sys
with open(sys.argv[1], "r+b") as f:
    def word(at):
        f.seek(at)
        return struct.unpack(">Q", f.read(8))[0]
    mask = 0x00fffffffffffe00
    active = word(word(40)) & mask            # the L2 table that the disk uses
    inactive = word(word(word(64))) & mask    # the one of the snapshot
    f.seek(active)
    f.write(struct.pack(">Q", 1 << 63 | inactive))
PY
}

@test "overlap-check=all refuses the write, and marks the image corrupt" {
    expect 1 blkproof io -c 'open -o driver=qcow2,file.filename=a.img,overlap-check=all' -c 'write -P 3 0 512'
    contains "$err" "Preventing invalid write on metadata (overlaps with inactive L2 table)"
    contains "$out" "write failed: Input/output error"
    expect 0 blkproof img info a.img
    contains "$out" "corrupt: true"
}

@test "an L2 table that the file's end cuts off reads as zeroes there" {
    blkproof img create -q -f qcow2 b.img 1M
    blkproof io -f qcow2 -c 'write -q -P 1 0 64k' b.img
    python3 - b.img <<'PY'
import struct
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(40)
    l1, = struct.unpack(">Q", f.read(8))
    f.seek(0, 2)
    end = f.tell()
    f.write(struct.pack(">Q", 0))             # a table of 65536 bytes, of which 8 are there
    f.seek(l1)
    f.write(struct.pack(">Q", 1 << 63 | end))
PY
    expect 0 blkproof io -r -f qcow2 -c 'read -q -P 0 0 1M' b.img
    equal "$output" ""
}
