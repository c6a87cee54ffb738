# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# For tests of the NBD client: the server that misbehaves (fake_nbd.py), and the client with a guard,
# because the worst that it could do is to wait for ever. `load ../lib/fake_nbd` after common.

# fake NAME ARG...: fake_nbd.py in the background on the socket $(sock NAME); its log is $(requests NAME).
fake() {
    local name=$1
    need python3
    shift
    bg "$name" python3 "$TOP/tests/lib/fake_nbd.py" --log "$BATS_TEST_TMPDIR/$name.log" "$@" "$(sock "$name")"
    wait_for_socket "$(sock "$name")" "$name"
}

# requests NAME: the requests that it got, one line each: connection, command, offset, length, flags.
requests() {
    cat "$BATS_TEST_TMPDIR/$1.log" 2>/dev/null || true
}

# io STATUS NAME OPTIONS COMMAND...: blkproof io on the server NAME, with more driver options ("" or
# ",request-timeout=1"), in cache mode writeback: writes are not FUA.
io() {
    local status=$1 name=$2 options=$3 args=() c
    shift 3
    for c; do args+=(-c "$c"); done
    expect "$status" timeout 60 blkproof io -t writeback --image-opts "${args[@]}" \
        "driver=nbd,server.type=unix,server.path=$(sock "$name")$options"
    # The last requests may still lie in the server's socket: its log is complete when it has closed its
    # end (a server that is meant to hang never does).
    WAIT_SECONDS=2 wait_until "the server $name to close" no_connection "$(sock "$name")" 2>/dev/null || true
}

no_connection() { # /proc/net/unix: state 03 is connected
    awk -v p="$1" '$6 == "03" && $8 == p { found = 1 } END { exit found }' /proc/net/unix
}

# failed N WHAT: N lines "WHAT failed: ..." were said.
# shellcheck disable=SC2154 # output: set by expect
failed() {
    equal "$(grep -c "^$2 failed: " <<<"$output")" "$1" "number of '$2 failed'"
}
