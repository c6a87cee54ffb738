#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img check beside qemu-img check, on images that tests/lib/qcow2_damage.py damaged: what is told, counted
# and returned is the same; and what our repair leaves, qemu-img finds nothing wrong with.

load ../lib/common

setup_file() {
    need qemu-img qemu-io python3
    local spec n
    cd "$BATS_FILE_TMPDIR" || return
    mkdir bin
    ln -s "$(type -P blkproof)" bin/qemu-img
    for spec in plain:cluster_size=64k small:cluster_size=512 v2:compat=0.10,cluster_size=4k \
        narrow:refcount_bits=1,cluster_size=4k two:refcount_bits=2,cluster_size=4k \
        byte:refcount_bits=8,cluster_size=4k wide:refcount_bits=64,cluster_size=4k \
        ext:extended_l2=on,cluster_size=16k snap:cluster_size=4k packed:cluster_size=4k; do
        n=${spec%%:*}
        qemu-img create -q -f qcow2 -o "${spec#*:}" "base.$n" 4M
        qemu-io -f qcow2 -c 'write -P 1 0 300k' -c 'write -P 2 1M 64k' -c 'write -P 3 3M 20k' "base.$n"
        [ "$n" = v2 ] || qemu-io -f qcow2 -c 'write -z 64k 64k' "base.$n"
        if [ "$n" = snap ]; then
            qemu-img snapshot -c one base.snap
            qemu-io -f qcow2 -c 'write -P 4 0 50k' base.snap
            qemu-img snapshot -c two base.snap
        fi
        if [ "$n" = packed ]; then
            qemu-io -f qcow2 -c 'write -c -P 7 2M 4k' -c 'write -c -P 7 2052k 4k' \
                -c 'write -c -P 8 2056k 4k' base.packed
        fi
    done >/dev/null
}

# Damages that change nothing a guest reads of an image that has only this one.
harmless() {
    case $1 in
    l1-reserved | l1-copied | l2-reserved | l2-copied | packed-copied | refcount-* | leak | reftable-* | dirty | corrupt) ;;
    *) return 1 ;;
    esac
}

# damage BASE WHAT SEED: leaves t.img; what it was in $did.
damage() {
    cp "$BATS_FILE_TMPDIR/base.$1" t.img
    did=$(python3 "$BATS_TEST_DIRNAME/../lib/qcow2_damage.py" t.img "$2" "$3" | tr '\n' ' ')
}

# both: check by both; tables that snapshots share are read once by us, so a sentence may come once.
both() {
    local theirs=0 ours=0
    qemu-img check t.img >theirs.out 2>theirs.err || theirs=$?
    "$BATS_FILE_TMPDIR/bin/qemu-img" check t.img >ours.out 2>ours.err || ours=$?
    equal "$ours" "$theirs" "exit status: $*"
    equal "$(cat ours.out)" "$(cat theirs.out)" "stdout: $*"
    equal "$(sort -u ours.err)" "$(sort -u theirs.err)" "stderr: $*"
    status=$theirs
}

repaired() {
    cp t.img r.img
    expect 0 blkproof img check -r all r.img
    expect 0 qemu-img check r.img
    expect 0 blkproof img check r.img
    equal "$(cat <<<"$err")" "" "a second run tells something: $*"
}

each_base() {
    local base
    cd "$BATS_TEST_TMPDIR" || return
    for base in plain small v2 narrow two byte wide ext snap packed; do
        "$1" "$base" "${@:2}"
    done
}

one_damage() {
    damage "$1" "$2" 1
    both "$1" "$2"
    repaired "$1" "$2"
    if harmless "$2" && [[ $did != *nothing* ]]; then
        expect 0 qemu-img compare r.img "$BATS_FILE_TMPDIR/base.$1"
    fi
}

@test "undamaged images" {
    cd "$BATS_TEST_TMPDIR"
    local base
    for base in plain small v2 narrow two byte wide ext snap packed; do
        cp "$BATS_FILE_TMPDIR/base.$base" t.img
        both "$base"
        equal "$status" 0
    done
}

@test "damaged L1 tables" {
    for what in l1-unaligned l1-reserved l1-copied l1-past-end l1-zero; do each_base one_damage "$what"; done
}

@test "damaged L2 tables" {
    for what in l2-unaligned l2-reserved l2-copied l2-past-end l2-zero l2-cross; do each_base one_damage "$what"; done
}

@test "damaged compressed and subcluster entries" {
    for what in packed-copied packed-past-end; do one_in_tmp packed "$what"; done
    one_in_tmp ext subclusters
}
one_in_tmp() { (cd "$BATS_TEST_TMPDIR" && one_damage "$@"); }

@test "damaged refcounts" {
    for what in refcount-zero refcount-high leak; do each_base one_damage "$what"; done
}

@test "a damaged refcount table" {
    for what in reftable-zero reftable-reserved; do each_base one_damage "$what"; done
}

@test "a snapshot whose L1 table cannot be" { one_in_tmp snap snapshot-l1-size; }

@test "dirty and corrupt bits go when the image is clean" {
    cd "$BATS_TEST_TMPDIR"
    for what in dirty corrupt; do
        damage plain "$what" 1
        both plain "$what"
        expect 0 blkproof img check -r leaks t.img
        expect 0 qemu-img info --output=json t.img
        [[ $out != *'"dirty-flag": true'* && $out != *'"corrupt": true'* ]]
    done
}

@test "several damages at once, by seed" {
    cd "$BATS_TEST_TMPDIR"
    local seed base
    for seed in 3 5 8 13 21; do
        for base in plain small two ext snap; do
            damage "$base" "$seed" "$seed"
            both "$base" "$seed: $did"
            repaired "$base" "$seed: $did"
        done
    done
}

@test "the JSON form, options and quiet" {
    cd "$BATS_TEST_TMPDIR"
    local theirs ours
    damage snap refcount-high 1
    theirs=$(qemu-img check --output=json t.img 2>theirs.err | python3 -m json.tool --sort-keys)
    ours=$("$BATS_FILE_TMPDIR/bin/qemu-img" check --output=json t.img 2>ours.err | python3 -m json.tool --sort-keys)
    equal "$ours" "$theirs"
    expect 3 blkproof img check -q t.img
    equal "$out" ""
    expect 3 blkproof img check -f qcow2 -U -T none t.img
    expect 3 blkproof img check --image-opts driver=qcow2,file.filename=t.img
    cp t.img u.img
    theirs=$(qemu-img check -r leaks --output=json t.img 2>/dev/null | python3 -m json.tool --sort-keys)
    ours=$(cd "$BATS_TEST_TMPDIR" && mv u.img t.img && "$BATS_FILE_TMPDIR/bin/qemu-img" check -r leaks --output=json t.img 2>/dev/null |
        python3 -m json.tool --sort-keys)
    equal "$ours" "$theirs"
}

@test "leaks alone" {
    cd "$BATS_TEST_TMPDIR"
    damage two leak 1
    both leak
    equal "$status" 3
    expect 0 blkproof img check -r leaks t.img
    expect 0 qemu-img check t.img
}
