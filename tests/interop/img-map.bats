#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img map beside qemu-img map.

load ../lib/img_peer

make_files() {
    make_image a.img
    truncate -s 1M zero.img
    truncate -s 0 empty.img
}
setup() { peer_setup; }

@test "human and JSON" {
    local f
    for f in a.img zero.img; do
        same map "$f"
        same map --output=json "$f"
    done
    same map empty.img
    same map --output=json empty.img
}

@test "a part of the image" {
    same map -s 100k -l 600k a.img
    same map --output=json --start-offset=100k --max-length=600k a.img
    same map -s 2M a.img
    same map --output=json -l 64k a.img
}

@test "through a window" {
    same map --output=json 'json:{"driver":"raw","offset":4096,"file":{"driver":"file","filename":"a.img"}}'
    same map --output=json 'json:{"driver":"file","filename":"a.img"}'
}

@test "what is refused" {
    same map
    same map a.img zero.img
    same map -s foo a.img
    same map -l foo a.img
    same map --output=foo a.img
    same map nope.img
}
