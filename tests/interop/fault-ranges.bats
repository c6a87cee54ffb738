#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Ranges of a disk by what lies there: journals and metadata against what dumpe2fs, debugfs and xfs_db say; files of
# mounted file systems, whose rules act on them and on nothing else.
load ../lib/common
load ../lib/fuse
load ../lib/qmp

setup() {
    cd "$BATS_TEST_TMPDIR"
}

# blocks SIZE: the blocks of "OFFSET+LENGTH" ranges, one a line, each once.
blocks() {
    tr -d '[]"' | tr , '\n' | awk -F+ -v b="$1" '{ for (i = int($1 / b); i * b < $1 + $2; i++) print i }' | sort -n | uniq
}
# numbers: "5-7" and "9" to 5, 6, 7, 9.
numbers() { awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2); i++) print i }' | sort -n | uniq; }

KINDS=("-b 1024" "-b 4096" "-b 4096 -O ^64bit,^flex_bg" "-b 1024 -O ^sparse_super,^resize_inode"
    "-b 2048 -O sparse_super2 -E num_backup_sb=2" "-b 1024 -g 1024 -O ^flex_bg,^resize_inode")

@test "the metadata of ext4 is what dumpe2fs lists" {
    need mkfs.ext4 dumpe2fs
    local kind block
    for kind in "${KINDS[@]}" "-t ext2 -b 1024"; do
        rm -f i.img
        truncate -s 100M i.img
        # shellcheck disable=SC2086 # several words
        mkfs.ext4 -q $kind i.img
        block=$(dumpe2fs -h i.img 2>/dev/null | awk '/^Block size/ { print $3 }')
        expect 0 blkproof fault ranges --metadata i.img
        blocks "$block" <<<"$out" >ours
        {
            [ "$block" != 1024 ] || echo 0 # the boot block
            dumpe2fs i.img 2>/dev/null | grep -oE '(superblock|descriptors|GDT blocks|bitmap|table) at [0-9-]+' | grep -oE '[0-9-]+$'
        } | numbers >theirs
        [ "$(wc -l <theirs)" -gt 50 ]
        expect 0 diff theirs ours
    done
}

@test "the journal of ext4 is what debugfs shows of its inode, also when it is in many pieces" {
    need mkfs.ext4 debugfs
    local kind block
    for kind in "${KINDS[@]}"; do
        rm -f i.img
        truncate -s 100M i.img
        # shellcheck disable=SC2086
        mkfs.ext4 -q $kind i.img
        block=$(dumpe2fs -h i.img 2>/dev/null | awk '/^Block size/ { print $3 }')
        expect 0 blkproof fault ranges --journal i.img
        blocks "$block" <<<"$out" >ours
        debugfs -R 'stat <8>' i.img 2>/dev/null | sed -n '/EXTENTS/,$p' | grep -oE '\):[0-9-]+' | tr -d '):' | numbers >theirs
        [ "$(wc -l <theirs)" -ge 1024 ]
        expect 0 diff theirs ours
    done
}

@test "the log and the headers of xfs" {
    need mkfs.xfs xfs_db
    truncate -s 400M x.img
    mkfs.xfs -q x.img
    expect 0 blkproof fault ranges --journal x.img
    local at bytes
    at=$(xfs_db -r -c 'sb 0' -c "convert fsblock $(xfs_db -r -c 'sb 0' -c 'p logstart' x.img | awk '{ print $3 }') byte" x.img)
    bytes=$(($(xfs_db -r -c 'sb 0' -c 'p logblocks' x.img | awk '{ print $3 }') * 4096))
    equal "$out" "[\"$(grep -oE '\([0-9]+\)' <<<"$at" | tr -d '()')+$bytes\"]"
    expect 0 blkproof fault ranges --metadata x.img
    equal "$out" '["0+2048","104857600+2048","209715200+2048","314572800+2048"]' # four groups of 100 MiB
}

@test "what cannot be found is said" {
    need mkfs.ext4
    says() { # SENTENCE OPTION...
        local sentence=$1
        shift
        expect 1 blkproof fault ranges "$@"
        equal "$err" "blkproof: $sentence"
    }
    truncate -s 100M i.img
    says "'i.img': there is no ext2, ext3, ext4 or xfs" --journal i.img
    mkfs.ext4 -q -O ^has_journal i.img
    says "'i.img': the file system has no journal" --journal i.img
    mkfs.ext4 -q -F -t ext3 i.img
    says "'i.img': the extents of the journal are damaged, or it has none (as ext3's)" --journal i.img
    mkfs.ext4 -q -F -O meta_bg,^resize_inode i.img
    says "'i.img': group descriptors in meta block groups are not supported" --metadata i.img
    says "'absent': No such file or directory" --journal absent
    says "'absent': No such file or directory" --file absent
    says "'/proc/version' is on a file system without a disk of its own, or over several (btrfs)" --file /proc/version
    says "ranges: of what? Say --file, --metadata or --journal"
    truncate -s 1500 i.img
    says "'i.img': the file system cannot be read at 1024: Input/output error" --journal i.img
}

@test "a damaged superblock is refused, or gives ranges: it never crashes" {
    need mkfs.ext4 mkfs.xfs
    truncate -s 16M e.img
    truncate -s 300M x.img
    mkfs.ext4 -q -b 1024 e.img
    mkfs.xfs -q x.img
    local i at byte old f kind
    RANDOM=7
    for i in {1..40}; do
        for f in e x; do
            at=$((RANDOM % 260))
            [ $f = x ] || at=$((at + 1024))
            byte=$(printf '\\x%02x' $((RANDOM % 256)))
            old=$(od -An -tx1 -j "$at" -N 1 $f.img | tr -d ' ')
            # shellcheck disable=SC2059
            printf "$byte" | dd of=$f.img bs=1 seek="$at" conv=notrunc status=none
            for kind in --journal --metadata; do
                run blkproof fault ranges $kind $f.img
                [ "$status" -le 1 ] || fail "byte $at of $f.img to $byte: exit status $status"
            done
            printf "\\x$old" | dd of=$f.img bs=1 seek="$at" conv=notrunc status=none
        done
    done
}

@test "a rule for a file, the journal and the metadata of a mounted ext4 acts on them, and on nothing else" {
    need mkfs.ext4
    need_fuse
    need_loop
    truncate -s 64M disk.img
    fuse_serve s disk --qmp unix:q,server=on,wait=off --id d0 -f raw fault::disk.img
    wait_for_socket q s
    export BLKPROOF_QMP=unix:q
    loop=$(losetup -o 1M --sizelimit 20M --direct-io=on --show -f disk) # as a partition would begin
    LOOPS+=("$loop")
    mkfs.ext4 -q -b 1024 "$loop"
    mkdir m
    mount "$loop" m
    head -c 300k /dev/urandom >m/victim
    head -c 300k /dev/urandom >m/other
    sync m/victim m/other
    expect 0 blkproof fault add --id f --read --file m/victim --error EIO
    echo 3 >/proc/sys/vm/drop_caches
    expect 0 cat m/other
    expect 1 cat m/victim
    contains "$err" "Input/output error"
    expect 0 blkproof fault remove f
    expect 0 cat m/victim
    # where the blocks of the file lie, by the file system itself: behind 1 MiB
    umount m
    local first
    first=$(debugfs -R 'blocks /victim' "$loop" 2>/dev/null | awk '{ print $1 }')
    mount "$loop" m
    expect 0 blkproof fault ranges --file m/victim
    matches "$out" "^\\[\"$((first * 1024 + 1048576))\\+"
    # the journal takes the writes of a sync, and the data does not
    expect 0 blkproof fault add --id j --write --journal m --pass
    expect 0 blkproof fault add --id v --write --file m/victim --pass
    touch m/new
    sync m/new
    [ "$(blkproof fault list --json | jq '.[0].rules[] | select(.id == "j").fired')" -gt 0 ]
    equal "$(blkproof fault list --json | jq '.[0].rules[] | select(.id == "v").fired')" 0
    # what lies elsewhere
    expect 1 blkproof fault add --read --file "$TOP/README.md"
    matches "$err" "README.md' (does not lie on this disk|is on a file system)"
    umount m
    loop_off "$loop"
    expect 0 stop s
}

@test "a file of another disk of the same server, and a disk under a format, are refused" {
    need mkfs.ext4
    need_fuse
    need_loop
    truncate -s 64M a.img b.img
    : >fa
    : >fb
    bg s blkproof serve --qmp unix:q,server=on,wait=off --id a --fuse a=fa -f raw a=fault::a.img --id b --fuse b=fb b=fault::b.img
    wait_for_socket q s
    wait_until "the mount on fb" mounted_or_ended fb "$(pid s)"
    export BLKPROOF_QMP=unix:q
    loop_on fa
    mkfs.ext4 -q "$loop"
    mkdir m
    mount "$loop" m
    head -c 10k /dev/urandom >m/f
    expect 1 blkproof fault add --disk b --read --file m/f
    contains "$err" "'m/f' lies on another disk of the server, which is mounted as '$PWD/fa'"
    expect 0 blkproof fault add --disk a --read --file m/f
    expect 1 blkproof fault add --read --file m/f
    contains "$err" "there are several fault nodes"
    umount m
    loop_off "$loop"
    expect 0 stop s
    blkproof img create -q -f qcow2 t.qcow2 64M
    qmp_serve t --id d 'json:{"driver":"qcow2","file":{"driver":"fault","file":{"driver":"file","filename":"t.qcow2"}}}'
    expect 1 fault t add --read --metadata a.img
    contains "$err" "an image format is above the node"
}
