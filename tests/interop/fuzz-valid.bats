# SPDX-License-Identifier: BSD-2-Clause
# What the fuzzer calls a valid qcow2 image is clean for qemu-img check and for ours, and both read the same from
# it: by seeds, and with each feature that chance would bring too rarely. `scripts/soak` has thousands of them.
load ../lib/common
load ../lib/fuzz

setup() {
    need qemu-img
}

@test "valid images are clean and read the same" {
    fuzz_valid_qcow2 "$BATS_TEST_TMPDIR/images" --seed=1 --count=40
}

@test "so they are with each cluster size" {
    for bits in {9..21}; do
        fuzz_valid_qcow2 "$BATS_TEST_TMPDIR/images" --seed=1000 --count=2 --config=cluster_bits="$bits" --config=backing=0
    done
}

@test "so they are with refcounts of each width, and snapshots that share clusters" {
    for order in {0..6}; do
        fuzz_valid_qcow2 "$BATS_TEST_TMPDIR/images" --seed=2000 --count=2 --config=refcount_order="$order" --config=backing=0 \
            --config=refcount_16=0 --config=v2=0 --config=with_snapshots=1 --config=vm_state=1 --config=mapped=28
    done
}

@test "so they are with each feature" {
    for feature in v2 extended_l2 zstd data_file dirty lazy_refcounts with_bitmaps with_snapshots large_disk empty_disk; do
        fuzz_valid_qcow2 "$BATS_TEST_TMPDIR/images" --seed=3000 --count=2 --config="$feature"=1 --config=backing=0
    done
    fuzz_valid_qcow2 "$BATS_TEST_TMPDIR/images" --seed=3500 --count=4 --config=v2=0 --config=data_file=1 --config=data_file_raw=1
    fuzz_valid_qcow2 "$BATS_TEST_TMPDIR/images" --seed=3600 --count=4 --config=cluster_bits=14 --config=v2=0 --config=extended_l2=1
}

@test "so they are on backing files" {
    fuzz_valid_qcow2 "$BATS_TEST_TMPDIR/images" --seed=4000 --count=20 --config=backing=1 --config=data_file_raw=0
}

@test "an encrypted image's header is understood" {
    cd "$BATS_TEST_TMPDIR"
    blkproof fuzz gen --format=qcow2 --valid --count=10 --out=a --config=luks=1 --config=v2=0 --config=backing=0
    for f in a/*.qcow2; do
        expect 0 qemu-img info -f qcow2 "$f"
        contains "$out" "format: luks"
    done
}

@test "six of ten hostile images get past open" {
    cd "$BATS_TEST_TMPDIR"
    blkproof fuzz gen --format=qcow2 --count=200 --out=a --no-records
    opened=0
    for f in a/[0-9]????.qcow2; do
        ! qemu-img info -f qcow2 "$f" >/dev/null 2>&1 || opened=$((opened + 1))
    done
    echo "$opened of 200 were opened"
    [ "$opened" -ge 120 ]
}
