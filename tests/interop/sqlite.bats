# SPDX-License-Identifier: BSD-2-Clause
# examples/sqlite, with few cuts: SQLite on ext4 on a disk whose power goes.
load ../lib/common
load ../lib/fuse

setup() {
    need_fuse
    need_loop
    need mkfs.ext4 e2fsck python3
    python3 -c "import sqlite3" 2>/dev/null || skip "this Python has no SQLite"
    export TMPDIR=$BATS_TEST_TMPDIR
}

@test "SQLite after power cuts: FULL keeps every row, OFF does not, and of a disk that lies it is said" {
    expect 0 "$TOP/examples/sqlite/run" --cuts 6
    equal "$(grep -c "as it must be" <<<"$out")" 4
    matches "$out" 'full:   6 power cuts, [0-9]+ rows committed: 0 lost '
}
