#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Internal snapshots of qcow2: what QEMU takes we list, read, apply and delete, and the other way
# round; its check finds no error and no leak after any of it.

load ../lib/img_peer

make_files() { :; }
setup() {
    need qemu-img qemu-io
    cd "$BATS_TEST_TMPDIR"
    mkdir bin theirs ours
    ln -s "$(type -P blkproof)" bin/qemu-img
}

ours() { blkproof img "$@"; }

clean() {
    qemu-img check -q a.qcow2 || fail "qemu-img check after $1: $(qemu-img check a.qcow2 2>&1)"
}

# same_disk RAW [CONVERT OPTION...]: both read the image (or its snapshot) as RAW.
same_disk() {
    local raw=$1
    shift
    qemu-img convert -O raw "$@" a.qcow2 theirs.raw
    cmp theirs.raw "$raw" || fail "QEMU reads something else ($*)"
    blkproof img convert -O raw "$@" a.qcow2 ours.raw
    cmp ours.raw "$raw" || fail "blkproof reads something else ($*)"
}

history() { # options of the image
    rm -f a.qcow2
    qemu-img create -q -f qcow2 ${1:+-o "$1"} a.qcow2 20M
    qemu-io -c 'write -P 1 0 3M' -c 'write -P 2 5M 100k' -c 'write -z 7M 1M' -c 'write -c -P 9 10M 512k' a.qcow2
    qemu-img convert -O raw a.qcow2 one.raw
    ours snapshot -c one a.qcow2
    clean "create ($1)"
    qemu-io -c 'write -P 3 1M 1M' -c 'write -P 4 6M 100k' -c 'discard 2M 512k' -c 'write -P 8 10M 64k' a.qcow2
    clean "writing by QEMU ($1)"
    qemu-img convert -O raw a.qcow2 two.raw
    qemu-img snapshot -c two a.qcow2
    blkproof io -c 'write -P 5 0M 1M' -c 'write -P 6 8M 100k' -c 'discard 3M 512k' -c 'write -z 5M 64k' a.qcow2
    clean "writing by us ($1)"
    qemu-img convert -O raw a.qcow2 three.raw
    same_disk one.raw -l one
    same_disk two.raw -l two
    same_disk three.raw
    equal "$(ours snapshot -l a.qcow2)" "$(qemu-img snapshot -l a.qcow2)" list
    ours snapshot -a one a.qcow2
    clean "apply ($1)"
    same_disk one.raw
    blkproof io -c 'write -P 7 0 1M' a.qcow2
    same_disk one.raw -l one
    same_disk two.raw -l two
    ours snapshot -d one a.qcow2
    clean "delete ($1)"
    same_disk two.raw -l two
    qemu-img snapshot -a two a.qcow2
    clean "apply by QEMU ($1)"
    same_disk two.raw
    ours snapshot -d two a.qcow2
    clean "delete the last ($1)"
    same_disk two.raw
    [ -z "$(ours snapshot -l a.qcow2)" ]
}

@test "create, write, read, apply and delete" { history ""; }
@test "the same with small clusters" { history cluster_size=512; }
@test "the same with subclusters" { history extended_l2=on; }
@test "the same in version 2" { history compat=0.10; }
@test "the same with refcounts of other widths" {
    history refcount_bits=8
    history cluster_size=4k,refcount_bits=64
}

@test "a snapshot of another size: apply brings the size back" {
    qemu-img create -q -f qcow2 a.qcow2 5M
    qemu-io -c 'write -P 1 0 5M' a.qcow2
    qemu-img convert -O raw a.qcow2 small.raw
    ours snapshot -c small a.qcow2
    qemu-img resize -q a.qcow2 9M
    qemu-io -c 'write -P 2 4M 5M' a.qcow2
    qemu-img convert -O raw a.qcow2 large.raw
    ours snapshot -c large a.qcow2
    ours snapshot -a small a.qcow2
    clean "apply of the smaller"
    same_disk small.raw
    ours snapshot -a large a.qcow2
    clean "apply of the larger"
    same_disk large.raw
    blkproof img convert -O raw -l small a.qcow2 o.raw
    cmp o.raw small.raw
}

@test "the VM state area goes with the snapshot" {
    qemu-img create -q -f qcow2 a.qcow2 5M
    blkproof io -c 'write -b -P 7 0 64k' a.qcow2
    expect 0 qemu-io -c 'read -b -P 7 0 64k' a.qcow2
    qemu-io -c 'write -b -P 8 64k 64k' a.qcow2
    expect 0 blkproof io -c 'read -b -P 7 0 64k' -c 'read -b -P 8 64k 64k' a.qcow2
    ours snapshot -c s a.qcow2
    blkproof io -c 'write -b -P 9 0 64k' a.qcow2
    clean "writing VM state behind a snapshot"
    ours snapshot -a s a.qcow2
    clean apply
    expect 0 qemu-io -c 'read -b -P 7 0 64k' a.qcow2
}

@test "open option snapshot: read-only, by id or name" {
    qemu-img create -q -f qcow2 a.qcow2 5M
    qemu-io -c 'write -P 1 0 1M' a.qcow2
    qemu-img snapshot -c s a.qcow2
    qemu-io -c 'write -P 2 0 1M' a.qcow2
    expect 0 blkproof io -r --image-opts -c 'read -P 1 0 1M' driver=qcow2,snapshot=s,file.filename=a.qcow2
    expect 0 blkproof io -r --image-opts -c 'read -P 1 0 1M' driver=qcow2,snapshot=1,file.filename=a.qcow2
    expect 1 blkproof io --image-opts -c 'read 0 1M' driver=qcow2,snapshot=s,file.filename=a.qcow2
    contains "$output" "a snapshot can only be opened read-only"
    expect 1 blkproof io -r --image-opts -c 'read 0 1M' driver=qcow2,snapshot=no,file.filename=a.qcow2
    contains "$output" "snapshot 'no': Can't find snapshot"
}

@test "info shows the list" {
    qemu-img create -q -f qcow2 a.qcow2 5M
    ours snapshot -c first a.qcow2
    qemu-img snapshot -c 'a second one' a.qcow2
    cp a.qcow2 theirs
    cp a.qcow2 ours
    same_words info a.qcow2
    same_words snapshot -l a.qcow2
    equal "$(blkproof img info --output=json a.qcow2 | jq -S .snapshots)" \
        "$(qemu-img info --output=json a.qcow2 | jq -S .snapshots)" json
}

@test "what is refused, and how it is said" {
    for d in theirs ours; do
        (cd "$d" && qemu-img create -q -f qcow2 -o data_file=data d.qcow2 1M)
        qemu-img create -q -f qcow2 -o refcount_bits=1 "$d/r1.qcow2" 1M
        qemu-io -c 'write 0 64k' "$d/r1.qcow2"
        qemu-img create -q -f qcow2 "$d/a.qcow2" 1M
        qemu-img snapshot -c s "$d/a.qcow2"
        truncate -s 1M "$d/a.raw"
    done
    same_words snapshot -c s d.qcow2
    same_words snapshot -c s r1.qcow2

    qemu-img check -q ours/r1.qcow2
    same_words snapshot -d no a.qcow2
    same_words snapshot -d 1 a.qcow2
    same_words snapshot -a no a.qcow2
    same_words snapshot -l --image-opts driver=raw,file.filename=a.raw
    same_words snapshot -c x --image-opts driver=raw,file.filename=a.raw
    same_words snapshot -a x --image-opts driver=raw,file.filename=a.raw
    same_words snapshot -d x --image-opts driver=raw,file.filename=a.raw
    same_words convert -l no -O raw a.qcow2 out
    same_words convert -l snapshot.foo=x -O raw a.qcow2 out
    same_words convert -l x -f raw -O raw a.raw out
    same_words convert -l snapshot.name=s,snapshot.id=1 -O raw a.qcow2 out
    same_words convert -l snapshot.name=s,snapshot.id=2 -O raw a.qcow2 out
}

@test "many snapshots" {
    qemu-img create -q -f qcow2 -o cluster_size=512 a.qcow2 1M
    for i in $(seq 30); do
        blkproof io -c "write -P $i $((i * 1024)) 700" a.qcow2 >/dev/null
        ours snapshot -c "s$i" a.qcow2
    done
    clean "30 creations"
    equal "$(ours snapshot -l a.qcow2)" "$(qemu-img snapshot -l a.qcow2)" list
    for i in $(seq 2 2 30); do
        ours snapshot -d "s$i" a.qcow2
    done
    clean "15 deletions"
    ours snapshot -a s7 a.qcow2
    expect 0 qemu-io -c 'read -P 7 7168 512' -c 'read -P 0 8192 512' a.qcow2
    lacks "$output" "Pattern verification failed"
}
