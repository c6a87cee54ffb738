# SPDX-License-Identifier: BSD-2-Clause
# `make install` brings the program, every manual page and the completion, and what it brings works.
load ../lib/common

@test "make install" {
    unset MAKEFLAGS MAKELEVEL MFLAGS
    d=$BATS_TEST_TMPDIR/root
    expect 0 make -C "$TOP" install DESTDIR="$d"
    prefix=$(dirname "$(dirname "$(find "$d" -name blkproof -path '*/bin/*')")")
    expect 0 "$prefix/bin/blkproof" --version
    for page in "$TOP"/docs/*.scd; do
        name=$(basename "$page" .scd)
        [ -s "$prefix/share/man/man${name##*.}/$name" ] || fail "no manual page $name"
    done
    (. "$prefix/share/bash-completion/completions/blkproof" && declare -F _blkproof) >/dev/null
}
