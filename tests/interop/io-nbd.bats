#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# The same commands to the same server (qemu-nbd over a qcow2 image), from QEMU's qemu-io and from us.

load ../lib/common
load ../lib/qemu_io

setup() {
    setup_peers
    need qemu-img
}

# same_nbd ARG...: a fresh server and image for each of the two.
same_nbd() {
    local who theirs ours text
    for who in theirs ours; do
        local program=$QEMU_IO
        [ $who = theirs ] || program=$BATS_TEST_TMPDIR/bin/qemu-io
        qemu-img create -q -f qcow2 "$BATS_TEST_TMPDIR/disk.qcow2" 1M
        qemu_nbd server -f qcow2 "$BATS_TEST_TMPDIR/disk.qcow2"
        text=$(run_peer $who "$program" "$@" "$(uri server)")
        stop server
        text+=$'\n'$(qemu-img map --output=json -f qcow2 "$BATS_TEST_TMPDIR/disk.qcow2" | sed 's/"offset": [0-9]*//')
        printf -v "$who" %s "$text"
    done
    equal "$ours" "$theirs" "what qemu-io said and did"
}

@test "reads and writes" {
    same_nbd -f raw -c 'write -P 5 4k 8k' -c 'read -P 5 4k 8k' -c 'read -P 0 0 4k' -c 'read -v 4090 16' -c 'readv 0 512 1k' \
        -c 'writev -f 64k 512 512' -c flush
}

@test "zeroes and discards reach the image" {
    same_nbd -f raw -c 'write -P 5 0 256k' -c 'write -z 64k 64k' -c 'write -z -u 128k 64k' -c 'discard 192k 64k' -c 'read -P 5 0 64k'
}

@test "in the background" {
    same_nbd -f raw -c 'aio_write -q -P 1 0 64k' -c 'aio_write -q -P 2 64k 64k' -c aio_flush -c 'aio_read -P 2 64k 64k'
}

@test "the end of the device, and its length" {
    same_nbd -f raw -c length -c 'read 1M 512' -c 'write 1M 512' -c 'read 1048064 512'
}

@test "a server that is not there" {
    same -f raw -c length "nbd+unix:///?socket=$BATS_TEST_TMPDIR/nobody"
    same -f raw -c length "nbd:unix:$BATS_TEST_TMPDIR/nobody"
}
