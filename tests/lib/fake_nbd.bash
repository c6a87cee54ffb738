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
}

# failed N WHAT: N lines "WHAT failed: ..." were said.
failed() {
    equal "$(grep -c "^$2 failed: " <<<"$output")" "$1" "number of '$2 failed'"
}
