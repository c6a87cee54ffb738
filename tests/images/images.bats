#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Every broken image of this folder (see images.bash): what a check says, what a repair leaves, and that a
# second repair finds nothing to do.

load ../lib/common
load images

as_expected() {
    if [ -n "${UPDATE_EXPECTED-}" ] && [ ! -e "$1/by-hand" ]; then
        said qemu-img "$IMAGE" >"$1/expect.1"
    fi
    equal "$(said bin/qemu-img "$IMAGE")" "$(cat "$1/expect.1")" "$(basename "$1"): $(cat "$1/name")"
}

mended() {
    expect 0 blkproof img check -r all "$IMAGE"
    if [ -n "${UPDATE_EXPECTED-}" ] && [ ! -e "$1/by-hand" ]; then
        said qemu-img "$IMAGE" >"$1/expect.2"
    fi
    equal "$(said bin/qemu-img "$IMAGE")" "$(cat "$1/expect.2")" "repaired: $(basename "$1"): $(cat "$1/name")"
    grep -qx 'exit 0' "$1/expect.2"
    cp "$IMAGE" before
    expect 0 blkproof img check -r all "$IMAGE"
    equal "$err" ""
    cmp "$IMAGE" before
}

@test "what a check says" { each as_expected; }
@test "a repair mends everything at once" { each mended; }
