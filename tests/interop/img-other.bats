#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The subcommands that need an ability raw does not have, and the general command line, beside qemu-img.

load ../lib/img_peer

make_files() { make_image a.img; make_image b.img 2; }
setup() { peer_setup; }

@test "measure" {
    same measure a.img
    same measure --output=json a.img
    same measure --size 1G
    same measure -O raw --size 1000
    same measure -o preallocation=full a.img
    same measure
    same measure --size 1G a.img
    same measure --size foo
    same measure -O foo --size 1G
    same measure nope.img
}

@test "check" {
    same check a.img
    same check --output=json a.img
    same check nope.img
    same check
}

@test "snapshot" {
    same snapshot -l a.img
    same snapshot -c foo a.img
    same snapshot -d foo a.img
    same_status snapshot -a foo a.img
    same snapshot
}

@test "rebase, commit, amend, bitmap" {
    same rebase a.img
    same rebase -b b.img -F raw a.img
    same rebase -u -b '' a.img
    same commit a.img
    same amend a.img
    same amend -o compat=1.1 a.img
    same amend -o help -f raw
    same bitmap --add a.img b0
    same bitmap a.img b0
    same bitmap a.img
}

@test "the general command line" {
    same
    same foo
    same -x
}
