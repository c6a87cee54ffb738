#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img amend and img measure of qcow2 beside qemu-img.

load ../lib/img_peer

make_files() { :; }
setup() {
    need qemu-img qemu-io
    cd "$BATS_TEST_TMPDIR"
    mkdir bin theirs ours
    ln -s "$(type -P blkproof)" bin/qemu-img
}

ours() { blkproof img "$@"; }

clean() {
    qemu-img check -q a.qcow2 || fail "qemu-img check after $1: $(qemu-img check a.qcow2 2>&1)"
    qemu-img convert -O raw a.qcow2 o.raw
    cmp o.raw "${2:-want.raw}" || fail "the disk is another after $1"
}

field() { # name of a format-specific field
    qemu-img info --output=json a.qcow2 | jq -r ".\"format-specific\".data.\"$1\""
}

fill() { # options
    rm -f a.qcow2
    qemu-img create -q -f qcow2 ${1:+-o "$1"} a.qcow2 20M
    qemu-io -c 'write -P 1 0 3M' -c 'write -c -P 9 10M 512k' -c 'write -P 4 7M 64k' a.qcow2
    qemu-img convert -O raw a.qcow2 want.raw
}

@test "refcounts of every width, there and back" {
    for cluster in 512 4k 64k; do
        fill cluster_size=$cluster
        for bits in 1 2 4 8 16 32 64 8; do
            if [ $bits -lt 8 ]; then
                # compressed clusters share: a count above 1
                qemu-io -c 'discard 10M 512k' a.qcow2
                qemu-img convert -O raw a.qcow2 want.raw
            fi
            ours amend -o refcount_bits=$bits a.qcow2
            clean "refcount_bits=$bits, cluster_size=$cluster"
            equal "$(field refcount-bits)" "$bits"
            blkproof io -c "write -P $bits 12M 70k" a.qcow2
            qemu-img convert -O raw a.qcow2 want.raw
            clean "writing with refcount_bits=$bits"
        done
    done
}

@test "a width that does not hold the counts is refused, and nothing is changed" {
    fill
    qemu-img snapshot -c s a.qcow2
    sum=$(sha256sum <a.qcow2)
    expect 1 blkproof img amend -o refcount_bits=1 a.qcow2
    matches "$output" "Cannot decrease refcount entry width to 1 bits: Cluster at offset 0x[0-9a-f]+ has a refcount of [0-9]+"
    clean refusal
    equal "$(sha256sum <a.qcow2)" "$sum"
}

@test "down to version 2 and up again" {
    fill
    blkproof io -c 'write -z 1M 128k' -c 'write -z 7M 64k' -c 'write -zu 8M 1M' a.qcow2
    qemu-img convert -O raw a.qcow2 want.raw
    ours amend -o compat=0.10 a.qcow2
    equal "$(field compat)" 0.10
    clean down
    blkproof io -c 'write -P 3 5M 64k' a.qcow2
    qemu-img convert -O raw a.qcow2 want.raw
    ours amend -o compat=1.1,lazy_refcounts=on,refcount_bits=32 a.qcow2
    clean up
    equal "$(field compat) $(field lazy-refcounts) $(field refcount-bits)" "1.1 true 32"
    qemu-io -c 'write -z 0 1M' a.qcow2
    qemu-img convert -O raw a.qcow2 want.raw
    ours amend -o lazy_refcounts=off,refcount_bits=16,compat=v2 a.qcow2
    equal "$(field compat)" 0.10
    clean "down again"
}

@test "zero clusters over a backing file become data, in snapshots too" {
    qemu-img create -q -f qcow2 base.qcow2 8M
    qemu-io -c 'write -P 5 0 8M' base.qcow2
    qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 a.qcow2
    qemu-io -c 'write -P 1 1M 256k' -c 'write -z 1M 128k' -c 'write -z 3M 64k' a.qcow2
    qemu-img convert -O raw a.qcow2 one.raw
    qemu-img snapshot -c s a.qcow2
    qemu-io -c 'write -z 5M 64k' -c 'write -P 6 3M 32k' a.qcow2
    qemu-img convert -O raw a.qcow2 want.raw
    ours amend -o compat=0.10 a.qcow2
    clean downgrade
    qemu-img convert -l s -O raw a.qcow2 o.raw
    cmp o.raw one.raw
    ours amend -o compat=1.1 a.qcow2
    clean upgrade
    ours snapshot -a s a.qcow2
    clean apply one.raw
    ours snapshot -d s a.qcow2
    clean delete one.raw
}

@test "size" {
    fill
    ours amend -o size=25M a.qcow2
    truncate -s 25M want.raw
    clean larger
    ours amend -o size=8M a.qcow2
    truncate -s 8M want.raw
    clean smaller
}

@test "what amend says" {
    for d in theirs ours; do
        (
            cd $d
            qemu-img create -q -f qcow2 a.qcow2 1M
            qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 1M
            qemu-img create -q -f qcow2 -o extended_l2=on e.qcow2 1M
            qemu-img create -q -f qcow2 -o data_file=d.data d.qcow2 1M
            qemu-img create -q -f qcow2 -o refcount_bits=1 r1.qcow2 1M
            qemu-img create -q -f qcow2 s.qcow2 1M
            qemu-img snapshot -c s s.qcow2
            qemu-img resize -q s.qcow2 2M
            truncate -s 1M r.raw
        )
    done
    for o in cluster_size=64k foo=1 compat=0.42 refcount_bits=7 refcount_bits=0 compat=0.10,refcount_bits=8 \
        compat=0.10,lazy_refcounts=on backing_file=base,backing_fmt=qcow2 preallocation=off data_file_raw=on \
        data_file=x encryption=on; do
        same_words amend -o $o a.qcow2
    done
    same_words amend -o refcount_bits=8 v2.qcow2
    same_words amend -o compat=0.10 e.qcow2
    same_words amend -o compat=0.10 d.qcow2
    same_words amend -o compat=0.10 r1.qcow2
    same_words amend -o compat=0.10 s.qcow2
    same_words amend -o size=2M --image-opts driver=raw,file.filename=r.raw
    same_words amend a.qcow2
}

@test "measure" {
    for d in theirs ours; do
        (
            cd $d
            qemu-img create -q -f qcow2 a.qcow2 100M
            qemu-io -c 'write 1M 100k' -c 'write -z 5M 1M' -c 'write 50M 1k' -c 'write 60M 10M' a.qcow2
            qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2
            qemu-io -c 'write 2M 128k' b.qcow2
            qemu-img convert -O raw a.qcow2 a.raw
            qemu-img create -q -f qcow2 m.qcow2 100M
            qemu-img bitmap --add m.qcow2 one
            qemu-img bitmap --add -g 512 m.qcow2 two
        )
    done
    for image in a.qcow2 b.qcow2 a.raw m.qcow2 "-f raw a.raw"; do
        for o in "" "-o cluster_size=512" "-o cluster_size=2M,refcount_bits=64" "-o extended_l2=on" \
            "-o preallocation=full" "-o backing_file=x,backing_fmt=qcow2" --output=json; do
            [[ $image != a.raw ]] || continue # its format is guessed, with a warning
            # shellcheck disable=SC2086 # words
            same_words measure -O qcow2 $o $image
        done
    done
    for size in 0 1 1M 10G 64T; do
        same_words measure -O qcow2 --size $size
        same_words measure -O qcow2 -o cluster_size=4k --size $size
    done
    same_words measure -O qcow2 -o cluster_size=512 --size 1T
    same_words measure -O qcow2 -o cluster_size=512,extended_l2=on --size 1G
}
