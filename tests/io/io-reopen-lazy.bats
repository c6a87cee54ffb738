#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# reopen -o lazy-refcounts: what a killed process leaves behind (bit 0 of the incompatible features).

load ../lib/common

setup() { cd "$BATS_TEST_TMPDIR" || return; }

dirty_bit() { od -An -tu1 -j79 -N1 a.qcow2 | tr -d ' '; }

@test "on: the image is dirty until it is closed" {
    blkproof img create -q -f qcow2 a.qcow2 1M
    run blkproof io -c 'reopen -o lazy-refcounts=on' -c 'write -q 0 512' -c 'sigraise 9' a.qcow2
    [ "$(dirty_bit)" = 1 ]
}

@test "off: what was postponed goes down at once" {
    blkproof img create -q -f qcow2 -o lazy_refcounts=on a.qcow2 1M
    run blkproof io -c 'write -q 0 512' -c 'reopen -o lazy-refcounts=off' -c 'write -q 64k 512' -c 'sigraise 9' a.qcow2
    [ "$(dirty_bit)" = 0 ]
    blkproof img check a.qcow2
}

@test "version 2 has no such bit" {
    blkproof img create -q -f qcow2 -o compat=0.10 a.qcow2 1M
    run blkproof io -c 'reopen -o lazy-refcounts=on' -c 'write -q 0 512' a.qcow2
    [ "$status" = 1 ]
    [ "$output" = "blkproof: Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level" ]
    blkproof img check a.qcow2
}
