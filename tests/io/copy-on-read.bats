#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# copy-on-read: what was read from the backing file is in the image from then on.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    pattern_file base 1048576
    blkproof img create -q -f qcow2 -b base -F raw top.qcow2
}

@test "io -C: a read is kept; what is not read is not; the event cor_write comes before each copy" {
    expect 0 blkproof io -f qcow2 -C -c 'read -q 100k 1k' -c 'read -q 512k 128k' top.qcow2
    equal "$output" ""
    expect 0 blkproof io -f qcow2 -c map top.qcow2
    equal "$out" "64 KiB (0x10000) bytes not allocated at offset 0 bytes (0x0)
64 KiB (0x10000) bytes     allocated at offset 64 KiB (0x10000)
384 KiB (0x60000) bytes not allocated at offset 128 KiB (0x20000)
128 KiB (0x20000) bytes     allocated at offset 512 KiB (0x80000)
384 KiB (0x60000) bytes not allocated at offset 640 KiB (0xa0000)"
    blkproof img compare -f qcow2 -F raw top.qcow2 base
    # nothing of it comes from the base any more
    expect 0 blkproof img check top.qcow2
    blkproof img rebase -u -b "" top.qcow2
    cmp <(blkproof img dd -O raw bs=64k skip=8 count=2 if=top.qcow2 of=part && cat part) <(dd if=base bs=64k skip=8 count=2 status=none)
    cmp <(blkproof img dd -O raw bs=64k skip=1 count=1 if=top.qcow2 of=part2 && cat part2) <(dd if=base bs=64k skip=1 count=1 status=none)
}

@test "zeroes are kept as zeroes; a copy that fails fails the read; a second read needs none" {
    truncate -s 0 base && truncate -s 1M base
    expect 0 blkproof io -f qcow2 -C -c 'read -q -P 0 0 64k' top.qcow2
    expect 0 blkproof img map --output=json top.qcow2
    equal "$(jq -c '.[0] | [.start, .length, .zero, .data, .depth]' <<<"$out")" '[0,65536,true,false,0]'
    printf '[inject-error]\nevent = "cor_write"\n' >conf
    pattern_file base 1048576
    expect 1 blkproof io --image-opts -c 'read 0 64k' -c 'read 128k 64k' \
        driver=copy-on-read,file.driver=blkdebug,file.config=conf,file.image.driver=qcow2,file.image.file.driver=file,file.image.file.filename=top.qcow2
    contains "$out" "read 65536/65536 bytes at offset 0"
    contains "$out" "read failed: Input/output error"
}

@test "read-only images are refused" {
    expect 1 blkproof io -r --image-opts -c 'read 0 64k' driver=copy-on-read,file.driver=qcow2,file.file.driver=file,file.file.filename=top.qcow2
    contains "$output" "Block node is read-only"
    expect 1 blkproof io -r -C -f qcow2 -c 'read 0 64k' top.qcow2
    contains "$output" "Can't use copy-on-read on read-only device"
}
