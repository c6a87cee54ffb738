# SPDX-License-Identifier: BSD-2-Clause
# serve --run: the command's variables, its exit status, and what is left behind.
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M disk.img
}

@test "the variables of --run reach the command" {
    expect 0 blkproof serve --nbd "unix:$PWD/s" --run 'printf "%s\n" "$uri" "$unixsocket" "<$port>" "$export" "$nbd"' \
        -f raw hd=disk.img
    equal "$out" "nbd+unix:///hd?socket=$PWD/s
$PWD/s
<>
hd
nbd:unix:$PWD/s:exportname=hd"
}

@test "a relative socket becomes an absolute one" {
    expect 0 blkproof serve --nbd unix:s --run 'cd / && echo "$unixsocket" && nbdinfo --size "$uri"' -f raw disk.img
    equal "$out" "$(realpath .)/s
1048576"
}

@test "on TCP there is a port and no socket" {
    expect 0 blkproof serve --nbd tcp:127.0.0.1:0 --run 'echo "$uri <$unixsocket> $port"' -f raw disk.img
    matches "$out" '^nbd://127\.0\.0\.1:([0-9]+)/ <> [0-9]+$'
    equal "${out##* }" "${BASH_REMATCH[1]}"
}

@test "names with shell syntax in them stay names" {
    mkdir 'a $(touch evil); b'
    expect 0 blkproof serve --nbd "unix:$PWD/a \$(touch evil); b/s" \
        --export '$(touch evil)`touch evil`;"' --run 'echo "$uri"; echo "$export"; echo $unixsocket' -f raw disk.img
    equal "$out" "nbd+unix:///%24%28touch%20evil%29%60touch%20evil%60%3B%22?socket=$PWD/a%20%24%28touch%20evil%29%3B%20b/s
\$(touch evil)\`touch evil\`;\"
$PWD/a \$(touch evil); b/s"
    [ ! -e evil ]
}

@test "without an address the socket is private and gone afterwards" {
    expect 0 env TMPDIR="$PWD" blkproof serve --run 'stat -c %a "$(dirname "$unixsocket")"; echo "$unixsocket"' -f raw disk.img
    matches "$out" "^700
$PWD/blkproof-......./?.*socket\$"
    equal "$(ls)" "disk.img
expect.err
expect.out"
}

@test "the exit status is the command's" {
    expect 7 blkproof serve --run 'exit 7' -f raw disk.img
    expect 0 blkproof serve --run 'true' -f raw disk.img
    expect 137 blkproof serve --run 'kill -KILL $$' -f raw disk.img
    expect 127 blkproof serve --run './no-such-command' -f raw disk.img
}

@test "the command gets its signals as we got them, and no descriptor of ours" {
    look='grep SigBlk /proc/self/status; for fd in /proc/self/fd/*; do readlink "$fd"; done | grep -cE "disk.img|anon_inode|socket"'
    equal "$(sh -c "$look" 3>&- </dev/null)" "$(blkproof serve --run "$look" -f raw disk.img 3>&- </dev/null)"
    # SIGPIPE and SIGXFSZ, which blkproof ignores (bits 12 and 24), must not be ignored by a command that
    # did not inherit that.
    equal "$(blkproof serve --run 'grep SigIgn /proc/self/status' -f raw disk.img | awk '{ print substr($2, 13, 1) substr($2, 10, 1) }')" 00
}

@test "SIGTERM ends the command too" {
    bg s blkproof serve --nbd "unix:$PWD/s" --run 'echo started; exec tail -f /dev/null' -f raw disk.img
    wait_for_line s.out started
    stop s || status=$?
    equal "$status" 143
    [ ! -e s ]
}
