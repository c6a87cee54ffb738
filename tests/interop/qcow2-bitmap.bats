#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Persistent bitmaps of qcow2: those that QEMU made record what we write, and ours what QEMU writes.
# What a bitmap holds is asked of QEMU's NBD server (qemu-nbd --bitmap), which neither side of the
# comparison wrote: nbdinfo --map shows it.

load ../lib/img_peer

make_files() { :; }
setup() {
    need qemu-img qemu-io qemu-nbd nbdinfo
    cd "$BATS_TEST_TMPDIR"
    mkdir bin theirs ours
    ln -s "$(type -P blkproof)" bin/qemu-img
}

ours() { blkproof img "$@"; }

clean() {
    qemu-img check -q a.qcow2 || fail "qemu-img check after $1: $(qemu-img check a.qcow2 2>&1)"
}

# dirty IMAGE BITMAP: "offset+length" of what it holds.
dirty() {
    nbdinfo --map="qemu:dirty-bitmap:$2" -- [ qemu-nbd -r -f qcow2 -B "$2" "$1" ] |
        awk '$3 == 1 { printf "%s+%s ", $1, $2 }'
}

# QEMU serves a bitmap only if it is disabled or the image read-only.
holds() {
    equal "$(dirty a.qcow2 "$1")" "$2" "what bitmap $1 holds"
}

@test "QEMU's bitmap records what we write" {
    qemu-img create -q -f qcow2 a.qcow2 10M
    qemu-img bitmap --add a.qcow2 b0
    qemu-img bitmap --add -g 4k a.qcow2 fine
    qemu-img bitmap --add --disable a.qcow2 off
    blkproof io -c 'write 1M 100k' -c 'write -z 3M 64k' -c 'discard 5M 128k' -c 'read 0 1M' a.qcow2
    clean writing
    holds b0 "1048576+131072 3145728+65536 5242880+131072 "
    holds fine "1048576+102400 3145728+65536 5242880+131072 "
    holds off ""
    blkproof io -c 'write 0 512' a.qcow2
    qemu-io -c 'write 9M 512' a.qcow2
    clean "both writing"
    holds b0 "0+65536 1048576+131072 3145728+65536 5242880+131072 9437184+65536 "
    equal "$(blkproof img info --output=json a.qcow2 | jq -S '."format-specific".data')" \
        "$(qemu-img info --output=json a.qcow2 | jq -S '."format-specific".data')" info
}

@test "our bitmap records what QEMU writes" {
    qemu-img create -q -f qcow2 a.qcow2 10M
    ours bitmap --add a.qcow2 b0
    clean add
    ours bitmap --add -g 32k --disable a.qcow2 b1
    clean "add, disable"
    qemu-io -c 'write 1M 100k' a.qcow2
    clean "writing by QEMU"
    holds b0 "1048576+131072 "
    holds b1 ""
    ours bitmap --disable a.qcow2 b0
    ours bitmap --enable a.qcow2 b1
    qemu-io -c 'write 2M 32k' a.qcow2
    blkproof io -c 'write 4M 1k' a.qcow2
    holds b0 "1048576+131072 "
    holds b1 "2097152+32768 4194304+32768 "
    ours bitmap --merge b1 a.qcow2 b0
    holds b0 "1048576+131072 2097152+65536 4194304+65536 "
    ours bitmap --clear a.qcow2 b1
    holds b1 ""
    ours bitmap --remove a.qcow2 b1
    clean remove
    equal "$(qemu-img info --output=json a.qcow2 | jq -c '[."format-specific".data.bitmaps[].name]')" '["b0"]'
    ours bitmap --remove a.qcow2 b0
    clean "remove the last"
    equal "$(qemu-img info --output=json a.qcow2 | jq -c '."format-specific".data.bitmaps')" null
}

@test "several operations at once, in order" {
    qemu-img create -q -f qcow2 a.qcow2 10M
    ours bitmap --add --disable a.qcow2 old
    ours bitmap --enable a.qcow2 old
    blkproof io -c 'write 64k 1k' a.qcow2
    ours bitmap --add --disable --merge old --enable a.qcow2 new
    blkproof io -c 'write 2M 1k' a.qcow2
    holds new "65536+65536 2097152+65536 "
    ours bitmap --clear --merge new --disable a.qcow2 old
    holds old "65536+65536 2097152+65536 "
    clean all
}

@test "a bitmap larger than a cluster, full and sparse parts" {
    qemu-img create -q -f qcow2 -o cluster_size=512 a.qcow2 16M
    ours bitmap --add -g 512 a.qcow2 b
    blkproof io -c 'write -z 1M 6M' -c 'write 15M 512' a.qcow2
    clean writing
    holds b "1048576+6291456 15728640+512 "
    blkproof io -c 'write 8M 1k' a.qcow2
    holds b "1048576+6291456 8388608+1024 15728640+512 "
    clean "writing again"
}

@test "resize keeps them" {
    qemu-img create -q -f qcow2 a.qcow2 10M
    ours bitmap --add a.qcow2 b
    blkproof io -c 'write 1M 1k' -c 'write 9M 1k' a.qcow2
    ours resize -q a.qcow2 20M
    clean growing
    holds b "1048576+65536 9437184+65536 "
    ours resize -q --shrink a.qcow2 5M
    clean shrinking
    holds b "1048576+65536 "
    ours resize -q a.qcow2 12M
    holds b "1048576+65536 "
    qemu-img resize -q a.qcow2 30M
    clean "growing by QEMU"
}

@test "convert --bitmaps" {
    qemu-img create -q -f qcow2 s.qcow2 10M
    qemu-img bitmap --add s.qcow2 b0
    qemu-img bitmap --add --disable -g 128k s.qcow2 b1
    qemu-io -c 'write 1M 100k' s.qcow2
    qemu-img bitmap --merge b0 s.qcow2 b1
    ours convert --bitmaps -O qcow2 s.qcow2 a.qcow2
    clean convert
    holds b0 "1048576+131072 "
    holds b1 "1048576+131072 "
    equal "$(qemu-img info --output=json a.qcow2 | jq -S '."format-specific".data.bitmaps')" \
        "$(qemu-img info --output=json s.qcow2 | jq -S '."format-specific".data.bitmaps')" bitmaps
    cmp <(qemu-img convert -O raw a.qcow2 /dev/stdout 2>/dev/null) <(qemu-img convert -O raw s.qcow2 /dev/stdout 2>/dev/null)
}

@test "a crash leaves a bitmap in use; such a one is refused, skipped, removed" {
    qemu-img create -q -f qcow2 a.qcow2 10M
    ours bitmap --add a.qcow2 b
    ours bitmap --add --disable a.qcow2 quiet
    blkproof io -c 'write 1M 1k' -c 'abort' a.qcow2 2>/dev/null || true
    equal "$(qemu-img info --output=json a.qcow2 | jq -c '[."format-specific".data.bitmaps[]|[.name,.flags]]')" \
        '[["b",["in-use","auto"]],["quiet",[]]]'
    clean crash
    expect 1 blkproof img bitmap --merge b a.qcow2 quiet
    contains "$output" "Bitmap 'b' is inconsistent and cannot be used"
    expect 1 blkproof img convert --bitmaps -O qcow2 a.qcow2 c.qcow2
    contains "$output" "Cannot copy inconsistent bitmap 'b'"
    [ ! -e c.qcow2 ]
    expect 0 blkproof img convert --bitmaps --skip-broken-bitmaps -O qcow2 a.qcow2 c.qcow2
    contains "$output" "Skipping inconsistent bitmap 'b'"
    equal "$(qemu-img info --output=json c.qcow2 | jq -c '[."format-specific".data.bitmaps[].name]')" '["quiet"]'
    blkproof io -c 'write 2M 1k' a.qcow2
    equal "$(qemu-img info --output=json a.qcow2 | jq -c '[."format-specific".data.bitmaps[]|[.name,.flags]]')" \
        '[["b",["in-use","auto"]],["quiet",[]]]'
    ours bitmap --remove a.qcow2 b
    clean remove
}

@test "sentences" {
    for d in theirs ours; do
        qemu-img create -q -f qcow2 "$d/a.qcow2" 1M
        qemu-img create -q -f qcow2 -o compat=0.10 "$d/v2.qcow2" 1M
        qemu-img create -q -f qcow2 "$d/other.qcow2" 2M
        qemu-img bitmap --add "$d/a.qcow2" b
        qemu-img bitmap --add "$d/other.qcow2" b
        truncate -s 1M "$d/r.raw"
    done
    same_words bitmap --add a.qcow2 b
    for op in --remove --clear --enable --disable; do
        same_words bitmap $op a.qcow2 no
    done
    same_words bitmap --merge no a.qcow2 b
    same_words bitmap --merge b a.qcow2 no
    same_words bitmap --add -g 100 a.qcow2 x
    same_words bitmap --add -g 256 a.qcow2 x
    same_words bitmap --add -g 4G a.qcow2 x
    same_words bitmap --add a.qcow2 ''
    same_words bitmap --merge b -b other.qcow2 -F qcow2 a.qcow2 b
    same_words bitmap --merge b -b v2.qcow2 -F qcow2 a.qcow2 b
    same_words convert --skip-broken-bitmaps -O qcow2 a.qcow2 d
    same_words convert --bitmaps -O qcow2 v2.qcow2 d
    same_words convert --bitmaps -O raw a.qcow2 d
    cp ours/a.qcow2 theirs/a.qcow2
    cp ours/a.qcow2 ours/b.qcow2
    mv ours/b.qcow2 ours/a.qcow2
    same_words info -U a.qcow2
    for d in theirs ours; do
        qemu-img snapshot -c s "$d/a.qcow2"
    done
    same_words snapshot -a s a.qcow2
}

@test "a hostile directory is refused" {
    qemu-img create -q -f qcow2 a.qcow2 10M
    qemu-img bitmap --add a.qcow2 b
    at=$(find_bytes a.qcow2 23852875)
    cp a.qcow2 good.qcow2
    # counts, sizes and offsets that are out of range, one at a time: value, offset in the extension
    for lie in ffffffff:0 00010000:0 00000000:0 00000002:0 7fffffffffffffff:8 0000000000000000:8 \
        fffffffffffffe00:16 0000000000000001:16 00ffffffffff0000:16; do
        cp good.qcow2 a.qcow2
        printf '%b' "$(echo "${lie%:*}" | sed 's/../\\x&/g')" |
            dd of=a.qcow2 bs=1 seek=$((at + 8 + ${lie#*:})) conv=notrunc status=none
        expect 1 blkproof io -c 'write 0 1k' a.qcow2
        [ -n "$output" ]
    done
}
