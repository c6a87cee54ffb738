# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Waiting for a fact, not for time to pass: used by the tests, the demo and the benchmark.

WAIT_SECONDS=${WAIT_SECONDS:-60} # generous: a loaded machine with a sanitizer build is slow

ended() { # a zombie has ended: only wait can collect it
    local state
    state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 0
    [ "${state:0:1}" = Z ]
}

# wait_until WHAT CMD...: poll until CMD succeeds.
wait_until() {
    local what=$1 end=$((SECONDS + WAIT_SECONDS))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$end" ]; then
            echo "waited ${WAIT_SECONDS} s for $what" >&2
            return 1
        fi
        sleep 0.02
    done
}

# wait_for_listener PATH [PID]: until somebody listens on the unix socket; fails at once if PID ends before.
wait_for_listener() {
    wait_until "the socket $1" listening_or_ended "$1" "${2:-}" && listening "$1"
}

listening() { # flag 00010000 of /proc/net/unix: the socket accepts connections
    # The name there is as the server gave it to bind: perhaps relative.
    [ -S "$1" ] && awk -v p="$1" -v b="${1##*/}" '$4 == "00010000" && ($8 == p || $8 == b) { found = 1 } END { exit !found }' /proc/net/unix
}

listening_or_ended() {
    listening "$1" || { [ -n "$2" ] && ended "$2"; }
}
