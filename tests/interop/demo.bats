# SPDX-License-Identifier: BSD-2-Clause
# `make demo`: a good run, a caught bit, and nothing left behind.
load ../lib/common

@test "the demo shows a clean run and a caught bit, and cleans up after itself" {
    need qemu-nbd qemu-img nbdcopy fio mkfs.ext4 e2fsck
    mkdir "$BATS_TEST_TMPDIR/t"
    TMPDIR=$BATS_TEST_TMPDIR/t expect 0 "$TOP/scripts/demo"
    contains "$out" "0 (a clean run)"
    contains "$out" "contents mismatch in sector"
    contains "$out" "diagnosis: one bit flipped: bit 3 of byte 30"
    contains "$out" "(0x39 instead of 0x31)"
    equal "$(find "$BATS_TEST_TMPDIR/t" -mindepth 1)" "" "what is left"
    lacks "$(ps -e -o args)" "$BATS_TEST_TMPDIR/t"
}
