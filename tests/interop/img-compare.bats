#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img compare beside qemu-img compare.

load ../lib/img_peer

make_files() {
    make_image a.img
    cp --sparse=always a.img same.img
    cp a.img longer.img && truncate -s 2M longer.img
    cp longer.img tail.img && printf x | dd of=tail.img bs=1 seek=1500000 conv=notrunc status=none
    cp a.img bit.img && flip_bit bit.img 530001 3
    truncate -s 1M zero.img
    cp a.img filled.img && dd if=/dev/zero of=filled.img bs=64k seek=2 count=1 conv=notrunc status=none
    truncate -s 0 empty.img
}
setup() { peer_setup; }

@test "identical images" {
    same compare a.img same.img
    same compare -f raw -F raw a.img a.img
    same compare -q a.img same.img
    same compare -s a.img same.img
    same compare -T none a.img same.img
    same compare a.img filled.img
    same compare empty.img empty.img
}

@test "different contents: the first sector that differs" {
    same compare a.img bit.img
    same compare bit.img a.img
    same compare a.img zero.img
    same compare zero.img a.img
    same compare -q a.img zero.img
}

@test "different sizes: what is behind the shorter one counts as zero" {
    same compare a.img longer.img
    same compare longer.img a.img
    same compare a.img tail.img
    same compare tail.img a.img
    same compare -s a.img longer.img
    same compare empty.img zero.img
    same compare empty.img a.img
    same compare bit.img longer.img
}

@test "strict: allocation counts" {
    same compare -s a.img filled.img
}

@test "what is refused, with status 2 where nothing was compared" {
    same compare a.img nope.img
    same compare nope.img a.img
    same compare a.img
    same compare
    same compare a.img b.img c.img
    same compare -F foo a.img same.img
    same compare -T foo a.img same.img
}
