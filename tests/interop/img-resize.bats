#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img resize beside qemu-img resize.

load ../lib/img_peer

make_files() { make_image a.img; }
setup() { peer_setup; }

@test "to a size, up and down by a size" {
    same resize -f raw a.img 2M
    same resize -f raw a.img +512
    same resize -f raw --shrink a.img -512
    same resize -f raw --shrink a.img 64k
    same resize -f raw a.img -- +1M
    same resize -f raw --shrink a.img +0
    same resize -q -f raw a.img 4M
    same resize --image-opts driver=raw,file.filename=a.img 5M
}

@test "preallocation" {
    same resize -f raw --preallocation=full a.img 2M
    same resize -f raw --preallocation=falloc a.img 3M
    same resize -f raw --preallocation=off a.img 4M
}

@test "what is refused leaves the image as it was" {
    same resize -f raw a.img 512k
    same resize -f raw a.img -512
    same resize -f raw --shrink a.img -2M
    same resize -f raw --shrink a.img -foo
    same resize -f raw --shrink a.img foo
    same resize -f raw a.img ''
    same resize -f raw a.img
    same resize
    same resize -f raw a.img 2M 3M
    same resize -f raw --preallocation=foo a.img 2M
    same resize -f raw --preallocation=metadata a.img 4M
    same resize -f raw --shrink --preallocation=full a.img 512k
    same resize -f raw nope.img 4M
    same resize -f raw a.img +9E
    same_status resize -f raw a.img +1E
}
