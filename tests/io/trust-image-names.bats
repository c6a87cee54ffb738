#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A name inside an image is followed only as a plain path, unless the user trusts the image's maker.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    blkproof img create -q base.raw 64k
    blkproof io -f raw -c 'write -q -P 7 0 64k' base.raw
}

@test "a json: name" {
    blkproof img create -q -u -f qcow2 -b 'json:{"driver":"raw","file":{"driver":"file","filename":"base.raw"}}' \
        -F raw a.img 64k
    expect 1 blkproof io -f qcow2 -c 'read -q -P 7 0 64k' a.img
    contains "$err" "only plain paths are followed (--trust-image-names allows it)"
    expect 0 blkproof io --trust-image-names -f qcow2 -c 'read -q -P 7 0 64k' a.img
    equal "$output" ""
    expect 0 blkproof --trust-image-names io -f qcow2 -c 'read -q -P 7 0 64k' a.img
    equal "$output" ""
    expect 1 blkproof img convert -f qcow2 -O raw a.img out.raw
    contains "$err" "--trust-image-names"
    expect 0 blkproof img convert --trust-image-names -f qcow2 -O raw a.img out.raw
    cmp base.raw out.raw
}

@test "a json: name of an image in a part of a file" {
    blkproof img create -q -f qcow2 b.img 64k
    blkproof io -f qcow2 -c 'write -q -P 9 0 64k' b.img
    blkproof img create -q -u -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"raw","offset":0,"file":{
        "driver":"file","filename":"b.img"}}}' -F qcow2 a.img 64k
    expect 0 blkproof io --trust-image-names -f qcow2 -c 'read -q -P 9 0 64k' a.img
    equal "$output" ""
}

@test "a backing file without format" {
    blkproof img create -q -f qcow2 -b base.raw -F raw a.img
    blkproof img rebase -u -f qcow2 -b '' a.img
    python3 - a.img <<'PY'
import struct
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(8)
    f.write(struct.pack(">QI", 0x8000, 8))
    f.seek(0x8000)
    f.write(b"base.raw")
PY
    expect 1 blkproof img map a.img
    contains "$err" "does not tell the format of its backing file"
    expect 0 blkproof img map --trust-image-names a.img
    contains "$out" "base.raw"
    expect 0 timeout 20 blkproof serve --trust-image-names --run 'true' a.img
}
