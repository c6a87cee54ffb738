# SPDX-License-Identifier: BSD-2-Clause
# examples/postgresql, with few power cuts.
load ../lib/common
load ../lib/fuse

setup() {
    need_fuse
    need_loop
    need mkfs.ext4 e2fsck python3 psql
    compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || skip "postgresql is not installed (scripts/install-deps all)"
}

@test "PostgreSQL: power cuts lose no committed row, a failed fsync is a PANIC, data_sync_retry=on loses updates" {
    # Not below the folder of the tests, which the user postgres may not enter.
    expect 0 "$TOP/examples/postgresql/run" --cuts 2
    equal "$(grep -c "as it must be" <<<"$out")" 4
    matches "$out" '2 honest power cuts .* 0 of them are lost, the index is whole;'
    matches "$out" $'\n''postgresql: as expected: [^'$'\n'']*$'
}
