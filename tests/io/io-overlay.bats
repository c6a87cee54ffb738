#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# io -s: writes go to a temporary overlay, the image stays as it is, nothing is left behind.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR" || return
    mkdir tmp
    head -c 1M /dev/zero | tr '\0' '\1' >a.raw
}

@test "what was written is read back, and the image did not change" {
    before=$(sha256sum <a.raw)
    TMPDIR=$PWD/tmp run blkproof io -f raw -s -c 'write -P 7 4k 8k' -c 'read -P 7 4k 8k' -c 'read -P 1 0 4k' \
        -c 'reopen' -c 'read -P 7 4k 8k' -c 'read -P 1 12k 100k' a.raw
    [ "$status" = 0 ]
    [ "$(sha256sum <a.raw)" = "$before" ]
    [ -z "$(ls tmp)" ]
}

@test "the image may be read-only" {
    chmod 444 a.raw
    run blkproof io -f raw -s -c 'write -P 7 0 4k' -c 'read -P 7 0 4k' a.raw
    [ "$status" = 0 ]
}

@test "a killed process leaves no overlay behind" {
    TMPDIR=$PWD/tmp run blkproof io -f raw -s -c 'write -P 7 0 64k' -c 'sigraise 9' a.raw
    [ "$status" = 137 ]
    [ -z "$(ls tmp)" ]
}

@test "the command open has it too" {
    run blkproof io -c 'open -s -o driver=raw a.raw' -c 'write -P 7 0 4k' -c 'read -P 7 0 4k' -c close \
        -c 'open -o driver=raw a.raw' -c 'read -P 1 0 4k'
    [ "$status" = 0 ]
}
