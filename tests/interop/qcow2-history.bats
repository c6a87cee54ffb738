#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Random histories of qcow2 images, by us alone and by us and qemu-io in turns: after each session
# qemu-img check finds neither errors nor leaks, and both tools read what a model holds.
# BLKPROOF_SEED=N runs another seed.

load ../lib/common

setup() {
    need qemu-img qemu-io python3
    SEED=${BLKPROOF_SEED:-1}
}

# histories OPTIONS...: each alone and in turns
histories() {
    local o who
    for o; do
        for who in ours both; do
            rm -rf "$BATS_TEST_TMPDIR/h"
            mkdir "$BATS_TEST_TMPDIR/h"
            cd "$BATS_TEST_TMPDIR/h"
            python3 "$TOP/tests/lib/qcow2_history.py" "$SEED" "${OPERATIONS:-60}" $who "$o" ||
                fail "seed $SEED, $who, options '$o'"
        done
    done
}

@test "cluster sizes" { histories "" cluster_size=512 cluster_size=4k cluster_size=2M; }

@test "refcount widths" {
    histories refcount_bits=1 refcount_bits=2 refcount_bits=8 refcount_bits=32 cluster_size=1k,refcount_bits=64
}

@test "version 2" { histories compat=0.10 compat=0.10,cluster_size=512 backing,compat=0.10; }

@test "over a backing file" { histories backing backing,cluster_size=1k; }

@test "subclusters" { histories extended_l2=on extended_l2=on,cluster_size=16k backing,extended_l2=on,cluster_size=32k; }

@test "zstd" { histories compression_type=zstd compression_type=zstd,cluster_size=4k; }

@test "lazy refcounts" { histories lazy_refcounts=on backing,lazy_refcounts=on,cluster_size=2k; }

@test "external data files" { histories data_file=d.raw data_file=d.raw,data_file_raw=on data_file=d.raw,extended_l2=on; }

@test "preallocated" { histories preallocation=metadata preallocation=falloc preallocation=full,cluster_size=4k; }
