#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A qcow2 disk changes its size while the active table holds VM state (QEMU wrote it, or a snapshot that has some was
# applied). It lies behind the disk, where a larger one goes on: QEMU 7.2 then shows it to the guest. Ours reads
# as zeroes there, and nothing leaks; the snapshot keeps its own.

load ../lib/common

setup() {
    need qemu-img qemu-io
    cd "$BATS_TEST_TMPDIR" || return
}

# with_vm_state OPTIONS: a disk of 32 KiB, 8 KiB of VM state in a snapshot that has been applied.
with_vm_state() {
    rm -f a.qcow2
    qemu-img create -q -f qcow2 -o "$1" a.qcow2 32k
    qemu-io -c 'write -P 1 0 32k' -c 'write -b -P 0x55 0 8k' a.qcow2
    qemu-img snapshot -c s a.qcow2
    blkproof img snapshot -a s a.qcow2
    qemu-io -r -c 'read -b -P 0x55 0 8k' a.qcow2 >out
    refute grep -q 'verification failed' out
}

refute() { ! "$@" || fail "should fail: $*"; }

clean() {
    expect 0 qemu-img check a.qcow2
    # shellcheck disable=SC2154 # set by expect
    contains "$out" "No errors were found on the image."
}

reads() { # PATTERN OFFSET BYTES
    expect 0 qemu-io -r -c "read -P $1 $2 $3" a.qcow2
}

@test "a larger disk is blank where VM state was" {
    local options
    for options in cluster_size=512 cluster_size=512,refcount_bits=64 cluster_size=16k,extended_l2=on; do
        with_vm_state "$options"
        expect 0 blkproof img resize -q a.qcow2 64M
        clean
        reads 1 0 32k
        reads 0 32k 32m
        expect 0 blkproof img resize -q a.qcow2 128M
        clean
        expect 0 blkproof img snapshot -a s a.qcow2
        clean
        reads 1 0 32k
        expect 0 qemu-io -r -c 'read -b -P 0x55 0 8k' a.qcow2
    done
}

@test "a preallocated larger disk is, too" {
    with_vm_state cluster_size=512
    expect 0 blkproof img resize -q --preallocation=metadata a.qcow2 96k
    clean
    reads 1 0 32k
    reads 0 32k 64k
}

@test "a smaller disk leaks no VM state" {
    with_vm_state cluster_size=512
    expect 0 blkproof img resize -q --shrink a.qcow2 16k
    clean
    reads 1 0 16k
    expect 0 blkproof img snapshot -d s a.qcow2
    clean
}
