#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Every broken image of this folder (see images.bash): what a guest could read before a repair, it reads after it.

load ../lib/common
load images

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

@test "a repair keeps what a guest could read" { each kept; }
