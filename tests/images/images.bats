#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Every broken image of this folder (see images.bash): what a check says, what a repair leaves, and that a
# second repair finds nothing to do, and that a guest reads what it could read before.

load ../lib/common
load images

setup() {
    need qemu-img qemu-io
    cd "$BATS_TEST_TMPDIR" || return
    mkdir bin
    ln -s "$(type -P blkproof)" bin/qemu-img
    IMAGE=image.qcow2
}

each() { # FUNCTION: for every directory
    local dir
    for dir in "$BATS_TEST_DIRNAME"/*/; do
        rm -f image.qcow2*
        cook "$dir"
        "$1" "${dir%/}"
    done
}

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

# The first 1 MiB as QEMU reads it, 16 bytes a line.
guest_reads() {
    local reads=() i
    for ((i = 0; i < 32; i++)); do
        reads+=(-c "read -v $((i * 4))k 4k")
    done
    for ((i = 2; i < 16; i++)); do
        reads+=(-c "read -v $((i * 64))k 64k")
    done
    # each line says where it is from; what could not be read is missing
    qemu-io -r -f qcow2 "${reads[@]}" "$IMAGE" 2>/dev/null | sed -n 's/^\(0[0-9a-f]*:  .*\)  .\{16\}$/\1/p' | sort -u
}

kept() {
    guest_reads >guest.before
    expect 0 blkproof img check -r all "$IMAGE"
    guest_reads >guest.after
    equal "$(comm -23 guest.before guest.after | head -n 3)" "" "$(basename "$1"): lost by the repair"
}

@test "what a check says" { each as_expected; }
@test "a repair mends everything at once" { each mended; }
@test "a repair keeps what a guest could read" { each kept; }
