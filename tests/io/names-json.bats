#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# json: names beside other options, and options of a backing file that the image names.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR" || return
    blkproof img create -q -f qcow2 base 1M
    blkproof io -c 'write -q -P 5 0 64k' base
    blkproof img create -q -f qcow2 -b base -F qcow2 top
}

@test "single quotes, and members that -f completes" {
    run blkproof io -f qcow2 -c 'read -P 5 0 4k' "json:{'file.filename': 'top'}"
    [ "$status" = 0 ]
    run blkproof img map -f qcow2 "json:{'file.filename': 'top'}"
    [ "$status" = 0 ]
}

@test "what is given beside the name wins" {
    run blkproof io -f qcow2 -c length "json:{'driver': 'raw', 'file': {'driver': 'file', 'filename': 'top'}}"
    [ "$output" = "1 MiB" ]
}

@test "options add to the backing file that the image names" {
    run blkproof io -c 'open -o backing.driver=raw top' -c 'read -P 5 0 4k'
    [ "$status" = 1 ] # the bytes of the file itself
    run blkproof io -c 'open -o backing.node-name=below top' -c 'read -P 5 0 4k'
    [ "$status" = 0 ]
    run blkproof io -c 'open -o driver=qcow2,backing.node-name=below top' -c 'reopen -o backing.node-name=below' \
        -c 'reopen -o backing.node-name=other'
    [ "$output" = "blkproof: Cannot change the option 'node-name'" ]
}

@test "raw: the window moves while the image is open" {
    head -c 4k /dev/zero >a.raw
    run blkproof io -c 'open -o driver=raw,offset=512,size=512 a.raw' -c 'reopen -o driver=raw,offset=1536,size=1024' \
        -c 'write -q -P 7 1023 1' -c length -c 'reopen -o offset=4k' -c 'read -q -P 7 1023 1'
    [ "$status" = 1 ]
    [ "${lines[0]}" = "1 KiB" ]
    [ "${#lines[@]}" = 2 ] # the refused reopen changed nothing
    [ "$(od -An -tu1 -j2559 -N1 a.raw | tr -d ' ')" = 7 ]
}

@test "map tells what the file of the chain that decides has" {
    run blkproof img map --output=json top
    [ "${lines[0]%, \"offset*}" = '[{ "start": 0, "length": 65536, "depth": 1, "present": true, "zero": false, "data": true, "compressed": false' ]
    [ "${lines[1]}" = '{ "start": 65536, "length": 983040, "depth": 1, "present": false, "zero": true, "data": false, "compressed": false}]' ]
}
