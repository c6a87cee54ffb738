# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Bash completion for blkproof. Verbs, options, and the words that options take come from --help, so that
# there is no list here to keep in step.

# --help of a verb; where a command with options of its own stands behind it (fuzz gen), of that.
_blkproof_help() { # VERB
    if [ "$1" = fuzz ] && [[ ${COMP_WORDS[2]-} =~ ^[a-z]+$ ]]; then
        blkproof fuzz "${COMP_WORDS[2]}" --help 2>/dev/null
    else
        blkproof "$1" --help 2>/dev/null
    fi
}

# The words that an option takes, as --help shows them: "-t, --cache=MODE  writeback (default), none or unsafe".
_blkproof_values() { # VERB OPTION
    _blkproof_help "$1" | awk -v option="$2" '
        /^ *-/ {
            found = 0
            n = split($0, words, /[ ,=]+/)
            for (i = 1; i <= n && i < 5; i++) if (words[i] == option) found = 1
            if (found && match($0, /=(MODE|NAME|FMT) +/)) $0 = substr($0, RSTART + RLENGTH)
            else found = 0
        }
        found {
            gsub(/\([^()]*\)/, "") # asides; the next two: those of more than one line
            sub(/\(.*/, "")
            sub(/.*\)/, "")
            sub(/^.*: /, "")
            gsub(/ or |,/, " ")
            n = split($0, words, / +/)
            for (i = 1; i <= n; i++) if (words[i] ~ /^[a-z_]+$/) print words[i]
        }'
}

_blkproof() {
    local cur prev verb=${COMP_WORDS[1]-} words
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD - 1]}
    if [ "$cur" = "=" ]; then
        cur=
    elif [ "$prev" = "=" ]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if [ "$COMP_CWORD" = 1 ] || { [ "$COMP_CWORD" = 2 ] && [ "$verb" = help ]; }; then
        words=$(blkproof --help 2>/dev/null | sed -nE 's/^  ([a-z]+) .*/\1/p')
        mapfile -t COMPREPLY < <(compgen -W "$words --help --version" -- "$cur")
    elif [[ $cur == -* ]]; then
        words=$(_blkproof_help "$verb" | grep -oE -- '(^|[ ,])--?[a-zA-Z][a-z-]*' | tr -d ' ,' | sort -u)
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    else
        words=
        [[ $prev != -* ]] || words=$(_blkproof_values "$verb" "$prev")
        # A verb with commands: they may stand behind an option that takes no word, too.
        [ -n "$words" ] || words=$(blkproof "$verb" --help 2>/dev/null | sed -nE '/^Commands:/,/^$/s/^  ([a-z-]+) .*/\1/p' |
            grep -E "^$cur" || true)
        if [ -n "$words" ]; then
            mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
    fi
}
complete -o filenames -F _blkproof blkproof
