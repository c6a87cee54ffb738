#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img dd beside qemu-img dd. One difference is on purpose: with both skip and count, QEMU 7.2 counts
# blocks from the beginning of the input; here, as in dd(1), from what was skipped to.

load ../lib/img_peer

make_files() { make_image a.img; }
setup() { peer_setup; }

@test "whole, counted, skipped" {
    same dd if=a.img of=new.img
    same dd bs=1M count=1 if=a.img of=new.img
    same dd bs=4k count=10 if=a.img of=new.img
    same dd bs=64k skip=8 if=a.img of=new.img
    same dd if=a.img of=new.img count=0
    same dd -f raw -O raw bs=512 if=a.img of=new.img
    same dd --image-opts if=driver=raw,file.filename=a.img of=new.img
    same dd bs=4k skip=500 if=a.img of=new.img
}

@test "skip and count together are dd's" {
    cd "$BATS_TEST_TMPDIR/ours"
    expect 0 blkproof img dd bs=4k skip=5 count=10 if=a.img of=new.img
    dd bs=4k skip=5 count=10 if=a.img of=want.img status=none
    cmp new.img want.img
}

@test "what is refused" {
    same dd
    same dd if=a.img
    same dd of=new.img
    same dd if=a.img of=new.img bs=0
    same dd if=a.img of=new.img bs=foo
    same dd if=a.img of=new.img bs=4G
    same dd if=a.img of=new.img count=foo
    same dd if=a.img of=new.img seek=1
    same dd if=a.img of=new.img foo
    same dd if=nope.img of=new.img
    same dd if=a.img of=/nonexistent/new.img
    same_status dd -O foo if=a.img of=new.img
}
