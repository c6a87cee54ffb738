# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Bash completion for blkproof: verbs, then the long options that `blkproof VERB --help` names, then files.

_blkproof() {
    local cur=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]-} words
    if [ "$COMP_CWORD" = 1 ]; then
        words=$(blkproof --help 2>/dev/null | sed -nE 's/^ +blkproof ([a-z]+).*/\1/p; s/^  ([a-z]+)  .*/\1/p' | sort -u)
        mapfile -t COMPREPLY < <(compgen -W "$words --help --version" -- "$cur")
    elif [[ $cur == -* ]]; then
        words=$(blkproof "$verb" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]+' | sort -u)
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}
complete -o filenames -F _blkproof blkproof
