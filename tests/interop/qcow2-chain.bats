#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img commit and img rebase beside qemu-img: the same chains, the same commands, the same disks after.

load ../lib/img_peer

make_files() {
    qemu-img create -q -f qcow2 b0 10M
    qemu-io -c 'write -P 1 0 2M' -c 'write -P 1 6M 64k' b0 >/dev/null
    qemu-img create -q -f qcow2 -b b0 -F qcow2 b1 "${B1:-10M}"
    qemu-io -c 'write -P 2 1M 2M' -c 'write -z 64k 64k' b1 >/dev/null
    qemu-img create -q -f qcow2 -b b1 -F qcow2 b2 12M
    qemu-io -c 'write -P 3 2M 2M' -c 'write -P 4 700 900' -c 'write -z 1M 64k' b2 >/dev/null
    qemu-img create -q -f raw new.raw 9M
    qemu-io -f raw -c 'write -P 1 0 1M' -c 'write -P 7 5M 2M' new.raw >/dev/null
}
setup() { peer_setup; }

# same_disks IMAGE...: each reads the same in both folders (by QEMU), and is clean.
same_disks() {
    local i d
    for i; do
        for d in theirs ours; do
            (cd "$BATS_TEST_TMPDIR/$d" && qemu-img convert -O raw "$i" "../$d.raw" &&
                { [[ $i == *.raw ]] || qemu-img check -q "$i"; }) || fail "$i of $d"
        done
        cmp "$BATS_TEST_TMPDIR/ours.raw" "$BATS_TEST_TMPDIR/theirs.raw" || fail "$i reads otherwise"
    done
}

backing() {
    qemu-img info -U --output=json "$1" | jq -c '[."backing-filename", ."backing-filename-format"]'
}
same_backing() {
    equal "$(cd "$BATS_TEST_TMPDIR/ours" && backing "$1")" "$(cd "$BATS_TEST_TMPDIR/theirs" && backing "$1")"
}

empty() {
    (cd "$BATS_TEST_TMPDIR/ours" && ! qemu-img map --output=json "$1" | jq -e '.[]|select(.depth==0 and .data)') ||
        fail "$1 is not empty"
}

@test "commit into the backing file, and the image is emptied" {
    same_words commit b2
    same_disks b1 b2 b0
    empty b2
}

@test "commit -d keeps the image's data" {
    same_words commit -d b2
    same_disks b1 b2 b0
    (cd "$BATS_TEST_TMPDIR/ours" && qemu-img map --output=json b2 | jq -e '.[]|select(.depth==0 and .data)' >/dev/null)
}

@test "commit -b: further down" {
    same_words commit -b b0 b2
    same_disks b0
    same_backing b2
}

@test "commit over an image on the way that is shorter" {
    (cd "$BATS_TEST_TMPDIR/theirs" && rm -f b* && B1=3M make_files)
    (cd "$BATS_TEST_TMPDIR/ours" && rm -f b* && B1=3M make_files)
    same_words commit -b b0 b2
    same_disks b0
}

@test "commit into raw" {
    for d in theirs ours; do
        (cd "$BATS_TEST_TMPDIR/$d" && qemu-img create -q -f qcow2 -b new.raw -F raw top 9M && qemu-io -c 'write -P 9 1M 3M' -c 'write -z 5M 1M' top)
    done
    same_words commit -q top
    cmp "$BATS_TEST_TMPDIR"/{ours,theirs}/new.raw
    same_disks top
}

@test "commit: what is refused" {
    same_words commit -b nope b2
    same_words commit b0
    same_words commit -q -p b2
}

@test "rebase onto another file of the chain" {
    same_words rebase -b b0 -F qcow2 b2
    same_disks b2 b1 b0
    same_backing b2
}

@test "rebase onto a shorter file with other content" {
    same_words rebase -b new.raw -F raw b2
    same_disks b2 new.raw
    same_backing b2
}

@test "rebase onto nothing" {
    same_words rebase -b '' b2
    same_disks b2
    same_backing b2
    rm "$BATS_TEST_TMPDIR"/ours/b1
    (cd "$BATS_TEST_TMPDIR/ours" && qemu-img check -q b2)
}

@test "rebase -u changes the name only" {
    same_words rebase -u -b nope -F qcow2 b2
    same_backing b2
    same_words rebase -b b0 -F qcow2 b2
    same_words rebase -u -b new.raw -F raw b2
    same_disks b2
    same_words rebase -u -b '' b2
    same_backing b2
    same_disks b2
}

@test "rebase: what is refused" {
    same_words rebase -u -b nope b2
    same_words rebase -b nope -F qcow2 b1
    same_words rebase -b b0 -F foo b1
    same_words rebase b1
    same_words rebase -u -b x --image-opts driver=raw,file.filename=new.raw
    same_words rebase -b b0 -F qcow2 --image-opts driver=raw,file.filename=new.raw
    long=$(printf 'x%.0s' {1..900})
    for d in theirs ours; do
        (cd "$BATS_TEST_TMPDIR/$d" && qemu-img create -q -f qcow2 -o cluster_size=512 small 1M)
    done
    same_words rebase -u -b "$long" -F qcow2 small
}
