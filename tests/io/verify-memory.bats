# SPDX-License-Identifier: BSD-2-Clause
# blkverify on a memory file system: the reference of a large read is compared in place, and what is found is what
# is found on a disk.
load ../lib/common

setup() {
    DIR=$(mktemp -d -p /dev/shm)
    [ "$(stat -f -c %T "$DIR")" = tmpfs ] || skip "/dev/shm is not a tmpfs"
    cd "$DIR"
    head -c 8M /dev/urandom >raw.img
    cp raw.img test.img
}

teardown() {
    cd /
    rm -rf "$DIR"
}

@test "large reads of equal files are equal" {
    expect 0 blkproof io -c 'read 0 8M' -c 'read 1 8191k' -c 'readv 512k 1M 512 3M' blkverify:raw.img:test.img
}

@test "one flipped bit in a large read is caught, where it is" {
    # bit 4 of byte 5 of sector 12345
    printf '%b' "\\x$(printf %02x $((0x$(hex raw.img $((12345 * 512 + 5)) 1) ^ 16)))" |
        dd of=test.img bs=1 seek=$((12345 * 512 + 5)) conv=notrunc status=none
    expect 1 blkproof io -c 'read 0 8M' blkverify:raw.img:test.img
    equal "$(head -n 1 <<<"$err")" \
        "blkverify: read sector_num=0 nb_sectors=16384 contents mismatch in sector 12345"
    grep -q 'one bit flipped' <<<"$err"
}

@test "the last byte of the last piece, and of an element of a scatter list" {
    cp test.img good.img
    for at in $((8 * 1024 * 1024 - 1)) $((1024 * 1024 - 1)) $((1024 * 1024)); do
        cp good.img test.img
        printf '%b' "\\x$(printf %02x $((0x$(hex raw.img "$at" 1) ^ 255)))" |
            dd of=test.img bs=1 seek="$at" conv=notrunc status=none
        expect 1 blkproof io -c 'readv 0 1M 7M' blkverify:raw.img:test.img
        equal "$(head -n 1 <<<"$err")" \
            "blkverify: read sector_num=0 nb_sectors=16384 contents mismatch in sector $((at / 512))"
    done
}

@test "what was written is compared, and nothing is changed by comparing" {
    before=$(sha256sum <raw.img)
    expect 0 blkproof io -c 'read 0 8M' -c 'write -P 7 3M 2M' -c 'read -P 7 3M 2M' -c 'read 0 8M' \
        blkverify:raw.img:test.img
    cmp raw.img test.img
    [ "$before" != "$(sha256sum <raw.img)" ]
}

@test "a reference that was cut behind our back reads as zeroes there" {
    serve s 'json:{"driver":"blkverify","raw":{"driver":"file","filename":"raw.img"},"test":{"driver":"file","filename":"test.img"}}'
    truncate -s 6M raw.img
    nbdsh -u "$(uri s)" -c '
h.pread(6 << 20, 0)
try:
    h.pread(8 << 20, 0)
except nbd.Error:
    print("refused")' || true
    expect 1 reap s
    grep -q 'contents mismatch in sector 12288' "$BATS_TEST_TMPDIR/s.err"
}
