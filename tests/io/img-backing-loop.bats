#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Backing files that are none: an image behind itself, a name of no characters.

load ../lib/common

setup() { cd "$BATS_TEST_TMPDIR"; }

@test "an image that is its own backing file ends in one sentence" {
    blkproof img create -q -f qcow2 a.qcow2 1M
    blkproof img rebase -u -b a.qcow2 -F qcow2 a.qcow2
    expect 1 blkproof img info --backing-chain a.qcow2
    equal "$err" "blkproof: Could not open 'a.qcow2': Could not open backing file: more than 64 nodes lie below each other: does one refer to itself?"
    expect 0 blkproof img info a.qcow2 # which opens nothing but the image
}

@test "a backing file without a name is refused" {
    expect 1 blkproof img create -f qcow2 -b '' a.qcow2 1M
    equal "$output" "blkproof: a.qcow2: Expected backing file name, got empty string"
    [ ! -e a.qcow2 ]
}
