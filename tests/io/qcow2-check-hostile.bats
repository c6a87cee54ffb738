#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img check of images made to waste time and memory: tables that name each other many times over, and huge
# sparse files. Memory is bounded (a limit on the address space), and so is what is told.

load ../lib/common

put() { # OFFSET HEX
    echo "$2" | xxd -r -p | dd of="$IMAGE" bs=1 seek="$1" conv=notrunc status=none
}

setup() {
    need xxd
    cd "$BATS_TEST_TMPDIR" || return
    IMAGE=image.qcow2
}

limited() { # no sanitizer lives within a limit on its address space
    [ -n "${BLKPROOF_SANITIZED-}" ] || ulimit -v $((600 * 1024))
    blkproof "$@"
}

@test "a sparse file of terabytes takes no memory for what is not there" {
    expect 0 blkproof img create -q -f qcow2 -o cluster_size=2M "$IMAGE" 1G
    truncate -s 8T "$IMAGE" 2>/dev/null || truncate -s 1T "$IMAGE"
    expect 0 limited img check "$IMAGE"
}

@test "L1 entries that all name one table are read once" {
    expect 0 blkproof img create -q -f qcow2 -o cluster_size=4k "$IMAGE" 8G
    expect 0 blkproof io -f qcow2 -c 'write 0 4k' "$IMAGE"
    # 4096 entries of the L1 table: each maps what the first does
    python3 - "$IMAGE" <<'PY'
import struct
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(40)
    l1, = struct.unpack(">Q", f.read(8))
    f.seek(l1)
    entry = f.read(8)
    f.seek(l1)
    f.write(entry * 4096)
PY
    expect 2 limited img check "$IMAGE"
    [[ $err == *"refcount=1 reference=4096"* ]]
    expect 0 limited img check -r all "$IMAGE"
    expect 0 limited img check "$IMAGE"
    equal "$err" ""
}

@test "a refcount block named many times over is told a bounded number of times" {
    expect 0 blkproof img create -q -f qcow2 -o cluster_size=512,refcount_bits=8 "$IMAGE" 4M
    python3 - "$IMAGE" <<'PY'
import struct
import sys
# 300 clusters of refcounts, each 512 bytes that say "used", for clusters that nothing refers to
with open(sys.argv[1], "r+b") as f:
    f.seek(48)
    table, = struct.unpack(">Q", f.read(8))
    f.seek(0, 2)
    first = (f.tell() + 511) // 512 * 512
    f.seek(first)
    f.write(b"\1" * 512)
    f.truncate(512 * 512 * 63)
    f.seek(table + 8)
    for i in range(62):
        f.write(struct.pack(">Q", first))
PY
    expect 2 limited img check "$IMAGE"
    [ "$(wc -l <<<"$err")" -le 100001 ]
}

@test "an extension whose head does not fit before the backing file's name is refused" {
    expect 0 blkproof img create -q -f qcow2 "$IMAGE" 1M
    python3 - "$IMAGE" <<'PY'
import struct
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(100)
    header, = struct.unpack(">I", f.read(4))
    f.seek(8)
    f.write(struct.pack(">QI", header + 4, 4))
    f.seek(header)
    f.write(struct.pack(">II", 0x12345678, 0))
PY
    expect 1 blkproof img info -f qcow2 "$IMAGE"
    [[ $err == *"Header extension too large"* ]]
}
