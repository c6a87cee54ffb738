# SPDX-License-Identifier: BSD-2-Clause
# The manual pages of the verbs agree with their --help: the same long options in both.
load ../lib/common

verbs() { # as the program lists them
    blkproof --help | sed -nE 's/^  ([a-z]+)  .*/\1/p'
}

options_in() { # FILE: long options, scdoc's escapes removed
    sed 's/\\//g' "$1" | grep -oE -- '--[a-z][a-z0-9-]+' | sort -u
}

@test "every verb has a manual page" {
    [ "$(verbs | wc -l)" -ge 3 ]
    for verb in $(verbs); do
        [ -e "$TOP/docs/blkproof-$verb.1.scd" ] || fail "no docs/blkproof-$verb.1.scd"
    done
}

@test "every long option of a verb's --help is in its manual page" {
    for verb in $(verbs); do
        expect 0 blkproof "$verb" --help
        printf '%s\n' "$out" >"$BATS_TEST_TMPDIR/help"
        missing=$(comm -23 <(options_in "$BATS_TEST_TMPDIR/help") <(options_in "$TOP/docs/blkproof-$verb.1.scd"))
        equal "$missing" "" "options of '$verb' that its page does not name"
    done
}

@test "the options of blkproof itself are in blkproof(1)" {
    expect 0 blkproof --help
    printf '%s\n' "$out" >"$BATS_TEST_TMPDIR/help"
    equal "$(comm -23 <(options_in "$BATS_TEST_TMPDIR/help") <(options_in "$TOP/docs/blkproof.1.scd"))" ""
}

@test "the index names every manual page" {
    for page in "$TOP"/docs/*.scd; do
        grep -qF "(${page##*/})" "$TOP/docs/README.md" || fail "${page##*/} is not in docs/README.md"
    done
}
