#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The "Formatting" line: scripts compare it as a whole. Expected values: qemu-img 7.2.

load ../lib/common

setup() { cd "$BATS_TEST_TMPDIR" || return; }

@test "a new qcow2 image: the options that have a default, in QEMU's order" {
    run blkproof img create -f qcow2 a.qcow2 1M
    [ "$status" = 0 ]
    [ "$output" = "Formatting 'a.qcow2', fmt=qcow2 cluster_size=65536 extended_l2=off compression_type=zlib size=1048576 lazy_refcounts=off refcount_bits=16" ]
}

@test "every option given: each stands once, the file's come last" {
    truncate -s 1M b.raw d.raw
    run blkproof img create -f qcow2 -b b.raw -F raw -o compat=1.1,preallocation=off,data_file=d.raw,data_file_raw=off,nocow=off,extent_size_hint=1M a.qcow2 1M
    [ "$status" = 0 ]
    [ "$output" = "Formatting 'a.qcow2', fmt=qcow2 cluster_size=65536 extended_l2=off preallocation=off compression_type=zlib size=1048576 compat=1.1 backing_file=b.raw backing_fmt=raw data_file=d.raw data_file_raw=off lazy_refcounts=off refcount_bits=16 nocow=off extent_size_hint=1048576" ]
}

@test "raw: the size first" {
    run blkproof img create -f raw -o nocow=off,extent_size_hint=1M,preallocation=off a.raw 1M
    [ "$status" = 0 ]
    [ "$output" = "Formatting 'a.raw', fmt=raw size=1048576 nocow=off preallocation=off extent_size_hint=1048576" ]
}
