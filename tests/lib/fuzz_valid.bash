# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Valid images of `blkproof fuzz gen`, held against programs that read them. What a guest must read stands beside
# each image, told by the builder. BLKPROOF_SEEDS=N: so many of each kind, from FIRST_SEED on.

load ../lib/common

FUZZ_SEEDS=${BLKPROOF_SEEDS:-8}
FUZZ_FIRST=${FIRST_SEED:-1}

# Images $BATS_TEST_TMPDIR/NNNNN.EXT of a format; further arguments are choices: type=0.
valid() { # FORMAT [CHOICE...]
    local format=$1 choice args=()
    shift
    for choice; do
        args+=(--config "$choice")
    done
    rm -f "$BATS_TEST_TMPDIR"/*
    blkproof fuzz gen --format="$format" --valid --guest --seed="$FUZZ_FIRST" --count="$FUZZ_SEEDS" \
        --out="$BATS_TEST_TMPDIR" "${args[@]}"
}

# Run a command for each image: its name, that of its guest (which may not be there). The first
# failure is shown with what repeats it.
each_image() { # COMMAND...
    local record image guest seen=0
    for record in "$BATS_TEST_TMPDIR"/*.json; do
        guest=${record%.json}.guest
        for image in "${record%.json}".*; do
            case $image in
            *.json | *.guest) continue ;;
            esac
            seen=$((seen + 1))
            "$@" "$image" "$guest" && continue
            echo "seed and choices: $(jq -c '[.format, .seed, .layout]' "$record")"
            return 1
        done
    done
    [ "$seen" -eq "$FUZZ_SEEDS" ] || { echo "$seen images"; return 1; }
}

# A program that reads hostile images, and may hang or grow, has limits.
limited() {
    (ulimit -v 4000000 && exec timeout 60 "$@") 2>&1
}

identical() { # QEMU'S ARGUMENTS
    local said
    said=$(limited qemu-img compare "$@") || { echo "compare: $said"; return 1; }
    said=$(sed '/^qemu: module .* not found/d' <<<"$said") # of dmg: compressions that we do not use
    [ "$said" = "Images are identical." ] || { echo "compare: $said"; return 1; }
}

# qemu-img opens it, finds nothing wrong (63: the format has no check), and reads what it should. Over a
# qcow2 file, whose builder does not tell, there is no guest to compare with.
by_qemu() { # FORMAT IMAGE GUEST
    local said status=0
    said=$(limited qemu-img info -f "$1" "$2") || { echo "info: $said"; return 1; }
    said=$(limited qemu-img check -f "$1" "$2") || status=$?
    [ "$status" = 0 ] || [ "$status" = 63 ] || { echo "check: $status: $said"; return 1; }
    [ -e "$3" ] || ls "${2%/*}"/*.qcow2 >/dev/null || { echo "no guest"; return 1; }
    [ ! -e "$3" ] || identical -f "$1" -F raw "$2" "$3"
}

# 7-Zip reads it as the builder says; a guest that nobody told of passes.
by_7zip() { # TYPE IMAGE GUEST
    [ -e "$3" ] || return 0
    7z x -so "-t$1" "$2" 2>/dev/null </dev/null | cmp - "$3"
}
