# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# What tests of generated images share: valid ones are clean for both checkers, and both read the same.

# The formats of the files of record FILE that blkproof has no driver for, "" if there is none.
fuzz_foreign_formats() {
    grep -oE '"format":"[a-z0-9]+"' "$1" | sort -u | grep -vE '"(qcow2|raw|cow)"' || true
}

# fuzz_valid_qcow2 DIR OPTIONS...: images into DIR; whatever is not as it should be is told, and fails.
fuzz_valid_qcow2() {
    local dir=$1 image record bad=0
    shift
    rm -rf "$dir"
    blkproof fuzz gen --format=qcow2 --valid --out="$dir" --config=luks=0 --config=aes=0 "$@" || return 1
    cd "$dir" || return 1
    for record in [0-9]*.json; do
        image=${record%.json}.qcow2
        qemu-img check -q -f qcow2 "$image" >log 2>&1 || { tell_bad "$record" "qemu-img check"; bad=1; continue; }
        qemu-img convert -f qcow2 -O raw "$image" theirs 2>log || { tell_bad "$record" "qemu-img convert"; bad=1; continue; }
        [ -z "$(fuzz_foreign_formats "$record")" ] || continue
        blkproof --trust-image-names img check -q -f qcow2 "$image" >log 2>&1 || { tell_bad "$record" "blkproof img check"; bad=1; }
        blkproof --trust-image-names img convert -f qcow2 -O raw "$image" ours 2>log || { tell_bad "$record" "blkproof img convert"; bad=1; }
        cmp -s theirs ours || { echo "they read otherwise" >log; tell_bad "$record" cmp; bad=1; }
    done
    cd - >/dev/null || return 1
    rm -rf "$dir"
    return $bad
}

# tell_bad RECORD WHO: what repeats it, and what it said.
tell_bad() {
    local seed
    seed=$(grep -oE '"seed":"[0-9]+"' "$1" | tr -dc 0-9)
    echo "$2: seed $seed, $(grep -oE '"set":\{[^}]*\}' "$1"): $(head -n 3 log | tr '\n' ' ')" >&2
}
