#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Bash completion offers what the program has: verbs, options, and the words options take.

load ../lib/common

# completions WORD...: what is offered for the last word.
completions() {
    (
        . "$TOP/completions/blkproof.bash"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        _blkproof
        printf '%s\n' "${COMPREPLY[@]}" | sort
    )
}

@test "verbs" {
    equal "$(completions blkproof '' | tr '\n' ' ')" "--help --version fault fuzz help img io serve "
    equal "$(completions blkproof se)" "serve"
    equal "$(completions blkproof help im)" "img"
}

@test "every option that a verb's --help begins a line with is offered" {
    local verb option
    [ "$(blkproof io --help | grep -c "^  -")" -gt 15 ]
    for verb in io serve fault; do
        for option in $(blkproof "$verb" --help | sed -nE 's/^ +(-[a-zA-Z])?,? *(--[a-z-]+)?.*/\1 \2/p'); do
            equal "$(completions blkproof "$verb" "$option" | grep -xF -- "$option")" "$option"
        done
    done
}

@test "a command with options of its own has them offered" {
    contains "$(completions blkproof fuzz '' | tr '\n' ' ')" "gen "
    equal "$(completions blkproof fuzz gen --descr)" "--describe"
    equal "$(completions blkproof fuzz show --js)" "--json"
}

@test "words that options take" {
    equal "$(completions blkproof io -t write)" $'writeback\nwritethrough'
    equal "$(completions blkproof io --cache = '')" $'directsync\nnone\nunsafe\nwriteback\nwritethrough'
    equal "$(completions blkproof io -i '')" $'io_uring\nnative\nthreads'
    equal "$(completions blkproof io --discard = un)" "unmap"
    equal "$(completions blkproof io --on-mismatch '')" $'error\nreport\nstop'
}

@test "commands of fault" {
    equal "$(completions blkproof fault re)" $'release\nremove\nreport'
    equal "$(completions blkproof fault --json wa)" $'wait\nwatch'
    equal "$(completions blkproof fault --unse)" "--unset"
}

@test "file names otherwise" {
    cd "$BATS_TEST_TMPDIR"
    touch disk.img
    equal "$(completions blkproof io di)" "disk.img"
    equal "$(completions blkproof io -r di)" "disk.img"
}
