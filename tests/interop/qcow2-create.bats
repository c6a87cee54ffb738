#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# New qcow2 images: byte for byte those of qemu-img, or, where space is preallocated, checked by it.

load ../lib/common

setup() {
    need qemu-img
    cd "$BATS_TEST_TMPDIR"
}

# same SIZE OPTIONS...
same() {
    local size=$1 o
    shift
    for o; do
        rm -rf theirs ours d.raw
        mkdir theirs ours
        qemu-img create -q -f qcow2 ${o:+-o "$o"} theirs/x "$size"
        rm -f d.raw
        blkproof img create -q -f qcow2 ${o:+-o "$o"} ours/x "$size"
        equal "$(stat -c %s ours/x)" "$(stat -c %s theirs/x)" "bytes: size $size, options '$o'"
        # as cmp, but it leaves out holes
        qemu-img compare -q -f raw -F raw theirs/x ours/x || fail "size $size, options '$o'"
        qemu-img check -q -f qcow2 ours/x
    done
}

@test "versions, clusters, refcounts" {
    for size in 0 512 1M 100M 64G; do
        same $size "" compat=0.10 compat=v2 compat=v3 cluster_size=4k cluster_size=2M refcount_bits=1 \
            refcount_bits=2 refcount_bits=4 refcount_bits=8 refcount_bits=32 refcount_bits=64
    done
    same 100M cluster_size=512 cluster_size=512,refcount_bits=64
    same 64T "" cluster_size=2M
}

@test "features" {
    for size in 1M 3G; do
        same $size lazy_refcounts=on extended_l2=on extended_l2=on,cluster_size=16k compression_type=zstd \
            compression_type=zstd,lazy_refcounts=on,extended_l2=on data_file=d.raw
    done
    same 10M data_file=d.raw,data_file_raw=on
}

@test "backing files" {
    qemu-img create -q -f raw base 5M
    rm -rf theirs ours
    mkdir theirs ours
    cp base theirs/base
    cp base ours/base
    qemu-img create -q -f qcow2 -o backing_file=base,backing_fmt=raw theirs/x 5M
    blkproof img create -q -f qcow2 -o backing_file=base,backing_fmt=raw ours/x 5M
    cmp theirs/x ours/x
    qemu-img create -q -f qcow2 -o compat=0.10,backing_file=base,backing_fmt=raw theirs/x 5M
    blkproof img create -q -f qcow2 -o compat=0.10,backing_file=base,backing_fmt=raw ours/x 5M
    cmp theirs/x ours/x
}

@test "mapped in advance" {
    for size in 0 1M 100M 5000001; do
        same $size preallocation=metadata preallocation=metadata,cluster_size=512 \
            preallocation=metadata,cluster_size=4k,refcount_bits=64
    done
    same 100M preallocation=metadata,extended_l2=on
    same 20G preallocation=metadata
}

@test "space in advance" {
    for o in preallocation=falloc preallocation=full preallocation=full,cluster_size=4k; do
        blkproof img create -q -f qcow2 -o $o x 20M
        expect 0 qemu-img check -f qcow2 x
        contains "$output" "100.00% allocated"
        [ "$(($(stat -c '%b * %B' x)))" -ge 20971520 ] || fail "$o: only $(stat -c %b x) blocks"
        qemu-img create -q -f raw zero 20M
        expect 0 qemu-img compare -f qcow2 -F raw x zero
    done
}

# refused OPTIONS SENTENCE
refused() {
    expect 1 blkproof img create -q -f qcow2 -o "$1" x 1M
    equal "$err" "blkproof: x: $2"
}

@test "what is refused" {
    refused cluster_size=1000 "Cluster size must be a power of two between 512 and 2048k"
    refused cluster_size=256 "Cluster size must be a power of two between 512 and 2048k"
    refused cluster_size=4M "Cluster size must be a power of two between 512 and 2048k"
    refused refcount_bits=3 "Refcount width must be a power of two and may not exceed 64 bits"
    refused refcount_bits=128 "Refcount width must be a power of two and may not exceed 64 bits"
    refused encryption=on "encrypted images are not supported"
    refused data_file_raw=on "data-file-raw requires data-file"
    refused compat=0.10,refcount_bits=8 "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)"
    [ ! -e x ] || fail "a half image is left"
}
