# SPDX-License-Identifier: BSD-2-Clause
# Our qcow2 and QEMU's are one format: over a generated matrix of images (tests/lib/qcow2_matrix.py), what one
# writes the other reads, and after every operation of a random history there is no error and no leak. Then
# blkverify is the judge: qemu-nbd's view of an image against ours of its twin, under load.
#
# QCOW2_IMAGES (13), QCOW2_OPERATIONS (10), QCOW2_SEED (1) and QCOW2_REQUESTS (1500) make it longer or another one.
load ../lib/common

@test "a matrix of images with random histories, written in turn by QEMU and by us" {
    need qemu-img qemu-io python3
    python3 "$TOP/tests/lib/qcow2_matrix.py" --seed "${QCOW2_SEED:-1}" --images "${QCOW2_IMAGES:-13}" \
        --operations "${QCOW2_OPERATIONS:-10}" "$BATS_TEST_TMPDIR"
}

# judge OPTIONS [CREATE_ARG...]: twins, each made by the program whose driver will have it.
judge() {
    local options=$1 status=0 seed=${QCOW2_SEED:-1}
    shift
    cd "$BATS_TEST_TMPDIR" || return
    rm -f theirs.qcow2 ours.qcow2
    expect 0 qemu-img create -q -f qcow2 -o "$options" "$@" theirs.qcow2 24M
    expect 0 blkproof img create -q -f qcow2 -o "$options" "$@" ours.qcow2 24M
    qemu_nbd theirs -f qcow2 --discard=unmap theirs.qcow2
    serve proof --discard=unmap --scrub 'json:{"driver":"blkverify",
        "raw":{"driver":"nbd","server":{"type":"unix","path":"'"$(sock theirs)"'"}},
        "test":{"driver":"qcow2","file":{"driver":"file","filename":"ours.qcow2"}}}'
    PATH=/usr/bin:$PATH expect 0 python3 "$TOP/tests/lib/nbd_load.py" "$(uri proof)" "$seed" "${QCOW2_REQUESTS:-1500}"
    stop proof || status=$?
    equal "$status $(cat proof.err)" "0 " "exit status and messages of blkproof (QCOW2_SEED=$seed, $options $*)"
    stop theirs || true
    expect 0 qemu-img check -f qcow2 ours.qcow2
    # shellcheck disable=SC2154 # set by expect
    contains "$out" "No errors were found on the image."
    expect 0 blkproof img check -f qcow2 theirs.qcow2
    contains "$out" "No errors were found on the image."
}

backing() {
    need qemu-img qemu-nbd
    cd "$BATS_TEST_TMPDIR" || return
    pattern_file base.raw $((10 * 1024 * 1024)) 3
    expect 0 qemu-img convert -c -f raw -O qcow2 base.raw base.qcow2
}

@test "qemu-nbd's view against ours under load: the defaults, over a backing file" {
    backing
    judge cluster_size=64k -b base.qcow2 -F qcow2
}

@test "qemu-nbd's view against ours under load: subclusters and wide refcounts, over a backing file" {
    backing
    judge extended_l2=on,cluster_size=128k,refcount_bits=64 -b base.qcow2 -F qcow2
}

@test "qemu-nbd's view against ours under load: small clusters of version 2" {
    need qemu-img qemu-nbd
    judge compat=0.10,cluster_size=1k
}

@test "qemu-nbd's view against ours under load: one-bit refcounts, everything preallocated" {
    need qemu-img qemu-nbd
    judge refcount_bits=1,cluster_size=4k,preallocation=metadata
}

@test "the judge sees one bit that differs" {
    need qemu-img qemu-nbd
    cd "$BATS_TEST_TMPDIR" || return
    pattern_file base.raw 1048576 3
    expect 0 qemu-img convert -f raw -O qcow2 base.raw theirs.qcow2
    expect 0 blkproof img convert -f raw -O qcow2 base.raw ours.qcow2
    at=$(find_bytes ours.qcow2 00000000000000030000000000000011)
    flip_bit ours.qcow2 $((at + 700)) 2
    qemu_nbd theirs -f qcow2 theirs.qcow2
    expect 1 blkproof io -c 'read -q 0 1M' 'json:{"driver":"blkverify",
        "raw":{"driver":"nbd","server":{"type":"unix","path":"'"$(sock theirs)"'"}},
        "test":{"driver":"qcow2","file":{"driver":"file","filename":"ours.qcow2"}}}'
    contains "$output" "contents mismatch in sector $((0x11 * 8 + 1))"
}
