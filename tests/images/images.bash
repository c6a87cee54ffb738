# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash disable=SC2034
#
# Broken images: one directory each, with
#     name       what is broken, in a sentence
#     recipe     shell commands that make "$IMAGE", by the functions below
#     expect.1   what qemu-img check says of it (standard error, standard output, exit status)
#     expect.2   what it says of the repaired one
#     by-hand    (instead of the peer's) why the expectations are not QEMU's: it does not open the image, or so
# Nothing is registered: a new directory is a new test. `UPDATE_EXPECTED=1 bats tests/images` writes the
# expectations anew, from qemu-img and nothing else.

word() { # OFFSET BYTES: a big-endian number of the image
    od -An -tx1 -j "$1" -N "$2" "$IMAGE" | tr -d ' \n' | sed 's/^/0x/'
}

# Where the tables are: L1, L2 (the first one), REFTABLE, REFBLOCK (the first one), SNAPSHOTS; and find_bitmaps.
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

# As if it were encrypted: the image has what a check looks at, a LUKS header of two clusters of 4 KiB (at CRYPTO)
# and the extension that tells (at CRYPTO_EXTENSION). Making a real one takes seconds.
make_luks() {
    local end
    make_image cluster_size=4k 1M
    write 0 16k
    end=$(stat -c %s "$IMAGE")
    CRYPTO=$((end / 4096 * 4096))
    truncate -s $((CRYPTO + 8192)) "$IMAGE"
    poke $((REFBLOCK + CRYPTO / 4096 * 2)) '\0\x01\0\x01'
    find_extension 0
    CRYPTO_EXTENSION=$EXTENSION
    poke $((EXTENSION - 8)) '\x05\x37\xbe\x77\0\0\0\x10'
    poke "$EXTENSION" "\\0\\0\\0\\0\\0\\0\\x$(printf %02x $((CRYPTO >> 8)))\\0\\0\\0\\0\\0\\0\\0\\x1f\\0"
    poke 32 '\0\0\0\x02'
}

find_extension() { # TYPE: EXTENSION is where its data is
    EXTENSION=112
    while [ $(($(word "$EXTENSION" 4))) != $(($1)) ]; do
        EXTENSION=$((EXTENSION + 8 + ($(word $((EXTENSION + 4)) 4) + 7) / 8 * 8))
    done
    EXTENSION=$((EXTENSION + 8))
}

bitmap() { # one called NAME, of 512 bytes a bit, with some bits set
    qemu-img bitmap --add -g 512 "$IMAGE" "$1"
    qemu-io -f qcow2 -c "write -P 165 0 16k" "$IMAGE" >/dev/null
    find_tables
    find_bitmaps
}

# BITMAPS (the header extension's data), DIRECTORY, BITMAP_TABLE and BITMAP_DATA of the first.
find_bitmaps() {
    find_extension 0x23852875
    BITMAPS=$EXTENSION
    DIRECTORY=$(($(word $((BITMAPS + 16)) 8)))
    BITMAP_TABLE=$(($(word "$DIRECTORY" 8)))
    BITMAP_DATA=$(($(word "$BITMAP_TABLE" 8)))
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
