#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img bench beside qemu-img bench: what is sent, what is refused; not how long it takes.

load ../lib/img_peer

make_files() { make_image a.img; }
setup() { peer_setup; }

@test "reads" {
    same bench -c 10 a.img
    same bench -c 0 a.img
    same bench -f raw -c 10 -d 3 -o 1k -S 8k -s 512 a.img
    same bench -c 10 -o 1020k a.img
    same bench -c 1 -i threads a.img
    same bench -c 1 -t none -n a.img
}

@test "writes" {
    same bench -f raw -w -c 10 a.img
    same bench -f raw -w -c 20 -s 64k --pattern=90 a.img
    same bench -f raw -w -c 10 -d 2 --flush-interval=3 a.img
    same bench -f raw -w -c 10 -d 2 --flush-interval=3 --no-drain a.img
}

@test "what is refused" {
    same bench
    same bench a.img b.img
    same bench -c foo a.img
    same bench -s foo a.img
    same bench -S foo a.img
    same bench -o foo a.img
    same bench -f raw -w --pattern=300 a.img
    same bench --flush-interval=3 a.img
    same bench -f raw -w --flush-interval=3 a.img
    same bench -f raw -w --flush-interval=foo a.img
    same bench -t foo a.img
    same bench -i foo a.img
    same bench -c 1 nope.img
    same bench -c 1 -o 2M a.img
    same bench -c 1 -s 2M a.img
    same_status bench -d foo a.img
}
