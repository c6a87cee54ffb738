# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What the bats tests share: servers that start in the background and are gone after the test,
# waiting that ends the moment the thing is there, files with contents one can recognise.
# Use: `load ../lib/common` on top of the .bats file. `teardown` here stops everything started with
# `bg`; a file that needs its own teardown calls `stop_all` in it.
#
# Nothing here sleeps for time to pass: wait.bash polls for a fact and gives up after WAIT_SECONDS.

TOP=$(cd "${BATS_TEST_DIRNAME:?}/../.." && pwd)
export TOP
. "$TOP/tests/lib/wait.bash"
declare -gA BG_PID=()

teardown() {
    stop_all
}

# fail TEXT...: end the test with a sentence.
fail() {
    printf '%s\n' "$*" >&2
    return 1
}

# need CMD...: skip the test, naming the first program that is missing.
need() {
    local c
    for c; do
        type -P "$c" >/dev/null || skip "$c is not installed (scripts/install-deps all)"
    done
}

# expect STATUS CMD...: run, fail unless it exits with STATUS. stdout and stderr are in $output (both),
# $out and $err (alone).
# shellcheck disable=SC2034 # out, err, output are for the test
expect() {
    local want=$1 got=0
    shift
    "$@" >"$BATS_TEST_TMPDIR/expect.out" 2>"$BATS_TEST_TMPDIR/expect.err" </dev/null 3>&- || got=$?
    out=$(<"$BATS_TEST_TMPDIR/expect.out") err=$(<"$BATS_TEST_TMPDIR/expect.err")
    output=$out${out:+${err:+$'\n'}}$err
    [ "$got" = "$want" ] && return 0
    printf 'exit status %s, expected %s: %s\n' "$got" "$want" "$*" >&2
    printf '%s\n' "$output" | tail -n 60 >&2
    return 1
}

# equal ACTUAL EXPECTED [WHAT]: fail with a diff.
equal() {
    [ "$1" = "$2" ] && return 0
    printf '%s differs (-expected +actual)\n' "${3:-text}" >&2
    diff -u <(printf '%s\n' "$2") <(printf '%s\n' "$1") | tail -n +3 >&2
    return 1
}

# contains TEXT PART, matches TEXT ERE, lacks TEXT PART
contains() {
    [[ $1 == *"$2"* ]] || fail "no '$2' in: $1"
}
matches() {
    [[ $1 =~ $2 ]] || fail "no match for '$2' in: $1"
}
lacks() {
    [[ $1 != *"$2"* ]] || fail "'$2' should not be in: $1"
}

# bg NAME CMD...: start CMD in the background; its output goes to NAME.out and NAME.err in
# $BATS_TEST_TMPDIR, its process id is pid NAME. Its stdin is NAME.in if there is such a file.
bg() {
    local name=$1 in=/dev/null
    shift
    [ ! -e "$BATS_TEST_TMPDIR/$name.in" ] || in=$BATS_TEST_TMPDIR/$name.in
    "$@" <"$in" >"$BATS_TEST_TMPDIR/$name.out" 2>"$BATS_TEST_TMPDIR/$name.err" 3>&- &
    BG_PID[$name]=$!
}

pid() {
    echo "${BG_PID[$1]:?nothing called $1 was started}"
}

# reap NAME: wait for it to end by itself, return its exit status (124: it did not).
reap() {
    local p status=0
    p=$(pid "$1") || return
    wait_until "the end of $1" ended "$p" || return 124
    wait "$p" || status=$?
    unset "BG_PID[$1]"
    return "$status"
}

# stop NAME: SIGTERM, then as reap. stop_all: everything that is left, the hard way if it does not go.
stop() {
    kill -TERM "$(pid "$1")" 2>/dev/null || true
    reap "$1"
}

stop_all() {
    local name p
    for name in "${!BG_PID[@]}"; do
        p=${BG_PID[$name]}
        kill -CONT "$p" 2>/dev/null || true
        kill -TERM "$p" 2>/dev/null || true
    done
    for name in "${!BG_PID[@]}"; do
        p=${BG_PID[$name]}
        WAIT_SECONDS=10 wait_until "the end of $name" ended "$p" 2>/dev/null || kill -KILL "$p" 2>/dev/null || true
        wait "$p" 2>/dev/null || true
        unset "BG_PID[$name]"
    done
}

# wait_for_socket PATH [NAME]: until somebody listens on the unix socket; fails at once, with its
# output, if the background process NAME ends before.
wait_for_socket() {
    local path=$1 name=${2:-}
    wait_for_listener "$path" "${name:+${BG_PID[$name]}}" && return 0
    [ -z "$name" ] || tail -n 20 "$BATS_TEST_TMPDIR/$name.out" "$BATS_TEST_TMPDIR/$name.err" >&2
    fail "${name:-nobody} does not listen on $path"
}

# wait_for_line FILE ERE: until a line of FILE matches.
wait_for_line() {
    wait_until "a line '$2' in $1" grep -qE -- "$2" "$1"
}

# serve NAME ARG...: `blkproof serve ARG...` in the background on the unix socket $BATS_TEST_TMPDIR/NAME.sock.
# uri NAME [EXPORT], sock NAME: how to reach it (the same for qemu_nbd, qsd and nbdkit_serve below).
serve() {
    local name=$1
    shift
    bg "$name" blkproof serve --nbd "unix:$(sock "$name")" "$@"
    wait_for_socket "$(sock "$name")" "$name"
}

sock() {
    echo "$BATS_TEST_TMPDIR/$1.sock"
}

uri() {
    echo "nbd+unix:///${2:-}?socket=$(sock "$1")"
}

# libnbd's Python module belongs to the system's python3, whatever else is in front in PATH.
nbdsh() {
    PATH=/usr/bin:$PATH command nbdsh "$@"
}

# qemu_nbd NAME ARG...: QEMU's server, for many clients, one after the other or at once.
qemu_nbd() {
    local name=$1
    need qemu-nbd
    shift
    bg "$name" qemu-nbd --persistent --shared=8 --socket="$(sock "$name")" "$@"
    wait_for_socket "$(sock "$name")" "$name"
}

# nbdkit_serve NAME ARG...
nbdkit_serve() {
    local name=$1
    need nbdkit
    shift
    bg "$name" nbdkit --foreground --unix "$(sock "$name")" "$@"
    wait_for_socket "$(sock "$name")" "$name"
}

# qsd NAME BLOCKDEV...: qemu-storage-daemon exporting the last BLOCKDEV's node, called "disk", writable.
qsd() {
    local name=$1 b args=()
    need qemu-storage-daemon
    shift
    for b; do args+=(--blockdev "$b"); done
    bg "$name" qemu-storage-daemon "${args[@]}" \
        --nbd-server "addr.type=unix,addr.path=$(sock "$name"),max-connections=8" \
        --export type=nbd,id=e,node-name=disk,name=,writable=on
    wait_for_socket "$(sock "$name")" "$name"
}

# pattern_file FILE BYTES [SEED]: contents in which every 4 KiB block is different and says where it
# belongs (SEED and block number, 8 bytes each, big-endian), the rest pseudo-random without zeroes.
pattern_file() {
    perl -e '
        my ($file, $left, $seed) = @ARGV;
        my $x = ($seed * 2654435761 + 12345) & 0x7fffffff;
        my $pool = pack("C*", map { $x = ($x * 1103515245 + 12345) & 0x7fffffff; 1 + ($x >> 16) % 255 } 1 .. 8192);
        open(my $f, ">", $file) or die "$file: $!\n";
        for (my $i = 0; $left > 0; $i++) {
            my $b = pack("Q>Q>", $seed, $i) . substr($pool, ($i * 977) % 4111, 4080);
            $b = substr($b, 0, $left) if length($b) > $left;
            print $f $b or die "$file: $!\n";
            $left -= length($b);
        }
        close($f) or die "$file: $!\n";' "$1" "$2" "${3:-1}"
}

# flip_bit FILE OFFSET BIT: behind the back of whoever has it open.
flip_bit() {
    perl -e '
        my ($file, $offset, $bit) = @ARGV;
        open(my $f, "+<", $file) or die "$file: $!\n";
        binmode($f); seek($f, $offset, 0); read($f, my $b, 1) == 1 or die "$file: no byte at $offset\n";
        seek($f, $offset, 0); print $f chr(ord($b) ^ (1 << $bit));
        close($f) or die "$file: $!\n";' "$1" "$2" "$3"
}

# find_bytes FILE HEX: the offset of the first place where the bytes stand; fails if there is none.
find_bytes() {
    perl -e '
        my ($file, $hex) = @ARGV;
        open(my $f, "<", $file) or die "$file: $!\n";
        my ($want, $buf, $base) = (pack("H*", $hex), "", 0);
        while (read($f, $buf, 1 << 20, length($buf))) {
            my $i = index($buf, $want);
            if ($i >= 0) { print $base + $i, "\n"; exit 0; }
            my $drop = length($buf) - length($want) + 1;
            if ($drop > 0) { $base += $drop; substr($buf, 0, $drop, ""); }
        }
        exit 1;' "$1" "$2"
}

# hex FILE OFFSET LENGTH: lower-case digits, no spaces.
hex() {
    od -An -v -tx1 -j "$2" -N "$3" "$1" | tr -d ' \n'
}
