#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# The byte-range locks of image files: blkproof and QEMU keep each other's writers out.

load ../lib/common

setup() {
    need qemu-io qemu-img
    cd "$BATS_TEST_TMPDIR" || exit
    truncate -s 1M disk.img
    qemu-img create -q -f qcow2 disk.qcow2 1M
    mkfifo commands
}

# hold PROGRAM ARG...: it has the image open until the test ends; returns when it has said so.
hold() {
    "$@" <commands >held.out 2>held.err 3>&- &
    exec 4>commands
    echo 'read 0 512' >&4
    wait_for_line held.out 'read 512/512'
}

teardown() {
    exec 4>&-
    wait
    stop_all
}

@test "while QEMU writes a raw image, our writer is refused" {
    hold qemu-io -f raw disk.img
    expect 1 blkproof io -f raw -c 'write 0 512' disk.img
    contains "$err" "Failed to get shared \"write\" lock: Is another process using the image [disk.img]?"
}

@test "while we write a raw image, QEMU's writer is refused" {
    hold blkproof io -f raw disk.img
    expect 1 qemu-io -f raw -c 'write 0 512' disk.img
    contains "$err" 'Failed to get "write" lock'
}

@test "two writers of ours are kept apart, readers are not" {
    hold blkproof io -f raw disk.img
    expect 1 blkproof io -f raw -c 'write 0 512' disk.img
    contains "$err" 'Failed to get "write" lock'
    expect 0 blkproof io -r -f raw -c 'read 0 512' disk.img
    expect 0 qemu-io -r -f raw -c 'read 0 512' disk.img
}

@test "while QEMU writes a qcow2 image, we neither read nor write it, but with -U we look" {
    hold qemu-io -f qcow2 disk.qcow2
    expect 1 blkproof io -r -f qcow2 -c 'read 0 512' disk.qcow2
    contains "$err" 'lock'
    expect 1 blkproof io -f qcow2 -c 'write 0 512' disk.qcow2
    expect 0 blkproof img info -U disk.qcow2
    expect 0 blkproof io -r -U -f qcow2 -c 'read 0 512' disk.qcow2
}

@test "while we write a qcow2 image, QEMU neither reads nor writes it" {
    hold blkproof io -f qcow2 disk.qcow2
    expect 1 qemu-io -r -f qcow2 -c 'read 0 512' disk.qcow2
    contains "$err" 'lock'
    expect 1 qemu-img info disk.qcow2
    expect 0 qemu-img info -U disk.qcow2
}

@test "locking=off takes no lock" {
    hold qemu-io -f raw disk.img
    expect 0 blkproof io --image-opts -c 'read 0 512' driver=raw,file.filename=disk.img,file.driver=file,file.locking=off
}

@test "a lock goes with its process" {
    hold blkproof io -f raw disk.img
    exec 4>&-
    wait
    expect 0 qemu-io -f raw -c 'write 0 512' disk.img
    expect 0 blkproof io -f raw -c 'write 0 512' disk.img
}
