#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img create beside qemu-img create.

load ../lib/img_peer

make_files() { make_image a.img; }
setup() { peer_setup; }

@test "plain sizes and suffixes" {
    same create new.img 1M
    same create -f raw new.img 64k
    same create new.img 1.5k
    same create new.img 0x1000
    same create new.img 512b
    same create new.img 0
    same create -q new.img 3M
    same create -u new.img 1M
}

@test "options" {
    same create -f raw -o preallocation=off new.img 1M
    same create -f raw -o preallocation=falloc new.img 1M
    same create -f raw -o preallocation=full new.img 1M
    same create -f raw -o size=2M new.img
    same create -f raw -o preallocation=off -o preallocation=full new.img 1M
    same create -f raw -o nocow=on new.img 1M
}

@test "the help on options" {
    same create -f raw -o help new.img
    same create -f raw -o help
    same create -f raw -o 'size=1M,?' new.img
}

@test "what is refused" {
    cd "$BATS_TEST_TMPDIR"
    same create
    same create new.img
    same create new.img 1M 2M
    same create new.img 1Q
    same create new.img abc
    same create new.img -- -1
    same create new.img -1
    same create new.img 9E
    same_words create new.img 7E
    rm theirs/new.img # a file of no bytes, left behind
    same create new.img 99999999999999999999
    same create -f foo new.img 1M
    same create -o size=2M new.img 3M
    same create -o foo=1 new.img 1M
    same create -b a.img new.img
    same create -b a.img -F raw new.img
    same create -F raw new.img 1M
    same create -x new.img 1M
    same create --foo new.img 1M
    same create -o
    same create /nonexistent/new.img 1M
    same create 'json:{}' 1M
    same create . 1M
    same_status create -o preallocation=foo new2.img 1M
    [ ! -e ours/new2.img ] # theirs is there
}
