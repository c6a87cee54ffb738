#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# COW files of User-Mode Linux's own tools (uml_mkcow, uml_moo), both ways.

load ../lib/common

setup() {
    command -v uml_mkcow uml_moo >/dev/null || skip "uml-utilities is not installed"
    cd "$BATS_TEST_TMPDIR" || exit
    head -c 3M /dev/urandom >base.img
}

# The disk as a client sees it, in one file.
flatten() { blkproof img convert -O raw "$1" "$2"; }

@test "a COW file of uml_mkcow is written by us and merged by uml_moo" {
    uml_mkcow disk.cow base.img
    run blkproof img info disk.cow
    [ "$status" = 0 ]
    [[ $output == *"file format: cow"* ]]
    [[ $output == *"virtual size: 3 MiB (3145728 bytes)"* ]]
    cp base.img expected.img
    printf 'hello from blkproof' | dd of=expected.img bs=1 seek=700000 conv=notrunc status=none
    head -c 100000 /dev/zero | tr '\0' x | dd of=expected.img bs=1k seek=2000 conv=notrunc status=none
    printf 'hello from blkproof' >hello
    blkproof io -c 'write -s hello 700000 19' -c 'write -P 0x78 2000k 100000' disk.cow
    flatten disk.cow ours.img
    cmp ours.img expected.img
    uml_moo disk.cow merged.img
    cmp merged.img expected.img
}

@test "a COW file of ours is merged by uml_moo" {
    blkproof img create -q -f cow -b base.img -F raw disk.cow
    cp base.img expected.img
    head -c 70000 /dev/zero | tr '\0' y | dd of=expected.img bs=1k seek=511 conv=notrunc status=none
    blkproof io -c 'write -P 0x79 511k 70000' disk.cow
    uml_moo disk.cow merged.img
    cmp merged.img expected.img
}

@test "our header is the header of uml_mkcow" {
    uml_mkcow theirs.cow "$PWD/base.img"
    blkproof img create -q -f cow -b "$PWD/base.img" -F raw ours.cow
    cmp <(head -c 4128 theirs.cow) <(head -c 4128 ours.cow)
    [ "$(stat -c %s theirs.cow)" = "$(stat -c %s ours.cow)" ]
}

@test "a destructive merge into the backing file is seen by its check" {
    blkproof img create -q -f cow -b base.img -F raw disk.cow
    blkproof io -c 'write -P 1 0 4k' disk.cow
    touch -d '2001-01-01' base.img
    run blkproof io -r -c 'read 0 512' disk.cow
    [ "$status" = 1 ]
    [[ $output == *"was changed at 978307200"* ]]
    run blkproof io -r --image-opts -c 'read -P 1 0 512' driver=cow,check-backing=off,file.filename=disk.cow
    [ "$status" = 0 ]
}

@test "a COW file under the verifier agrees with a raw copy" {
    uml_mkcow disk.cow base.img
    cp base.img raw.img
    run blkproof io -c 'write -P 7 1000 5000' -c 'write -z 1M 64k' -c 'discard 2M 4k' -c 'read 0 3M' -c scrub \
        blkverify:raw.img:disk.cow
    [ "$status" = 0 ]
}
