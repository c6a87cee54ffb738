# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash disable=SC2034
#
# Broken images: one directory each, with
#     name       what is broken, in a sentence
#     recipe     shell commands that make "$IMAGE", by the functions below
#     expect.1   what qemu-img check says of it (standard error, standard output, exit status)
#     expect.2   what it says of the repaired one
# Nothing is registered: a new directory is a new test. `UPDATE_EXPECTED=1 bats tests/images` writes the
# expectations anew, from qemu-img and nothing else.

word() { # OFFSET BYTES: a big-endian number of the image
    od -An -tx1 -j "$1" -N "$2" "$IMAGE" | tr -d ' \n' | sed 's/^/0x/'
}

# Where the tables are: L1, L2 (the first one), REFTABLE, REFBLOCK (the first one), SNAPSHOTS.
find_tables() {
    L1=$(($(word 40 8)))
    L2=$(($(word "$L1" 8) & 0xfffffffffffe00))
    REFTABLE=$(($(word 48 8)))
    REFBLOCK=$(($(word "$REFTABLE" 8)))
    SNAPSHOTS=$(($(word 64 8)))
}

make_image() { qemu-img create -q -f qcow2 -o "$1" "$IMAGE" "$2"; }

write() { # as qemu-io's write
    qemu-io -f qcow2 -c "write -P 165 $*" "$IMAGE" >/dev/null
    find_tables
}

snapshot() {
    qemu-img snapshot -c "$1" "$IMAGE"
    find_tables
}

poke() { # OFFSET BYTES
    # shellcheck disable=SC2059
    printf "$2" | dd of="$IMAGE" bs=1 seek="$1" conv=notrunc status=none
}


cook() { # DIRECTORY
    # shellcheck source=/dev/null
    . "$1/recipe"
}

said() { # PROGRAM IMAGE...: what expect.* hold; end offsets depend on where new clusters are taken
    local status=0
    "$1" check "$2" >"$2.out" 2>"$2.err" || status=$?
    cat "$2.err"
    grep -v '^Image end offset' "$2.out" || true
    echo "exit $status"
}
