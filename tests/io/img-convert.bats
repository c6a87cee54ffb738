#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img convert: contents, holes, order, and what is left when it does not end well.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    pattern_file data.img $((3 * 1024 * 1024 + 512 * 7))
}

# data, 5 MiB hole, data
make_sparse() {
    truncate -s 8M "$1"
    dd if=data.img of="$1" bs=1M count=1 conv=notrunc status=none
    dd if=data.img of="$1" bs=1M skip=1 seek=6 count=1 conv=notrunc status=none
}

allocated() { echo $(($(stat -c '%b * %B' "$1"))); }

@test "the copy is the image, with any number of workers, in order and not" {
    local m
    for m in 1 2 8 16; do
        expect 0 blkproof img convert -m "$m" data.img copy.img
        cmp data.img copy.img
        expect 0 blkproof img convert -W -m "$m" data.img copy.img
        cmp data.img copy.img
    done
    equal "$output" "" "output"
}

@test "images joined: one behind the other, whatever their sizes" {
    expect 0 blkproof img convert -f raw data.img data.img copy.img
    cat data.img data.img | cmp - copy.img
}

@test "holes stay holes, zeroes become holes, -S 0 fills them" {
    make_sparse sparse.img
    expect 0 blkproof img convert sparse.img copy.img
    cmp sparse.img copy.img
    equal "$(allocated copy.img)" "$((2 * 1024 * 1024))" "allocated bytes"
    cp --sparse=never sparse.img full.img
    expect 0 blkproof img convert full.img copy.img
    cmp sparse.img copy.img
    equal "$(allocated copy.img)" "$((2 * 1024 * 1024))" "allocated bytes"
    expect 0 blkproof img convert -S 0 sparse.img copy.img
    cmp sparse.img copy.img
    equal "$(allocated copy.img)" "$((8 * 1024 * 1024))" "allocated bytes"
}

@test "runs of zeroes shorter than -S are data" {
    dd if=/dev/zero of=data.img bs=64k seek=4 count=1 conv=notrunc status=none
    head -c 3M data.img >mixed.img
    expect 0 blkproof img convert -S 1M mixed.img copy.img
    cmp mixed.img copy.img
    equal "$(allocated copy.img)" "$(stat -c %s mixed.img)" "allocated bytes"
    # also when the run is longer than what is read at once otherwise
    dd if=/dev/zero of=mixed.img bs=1M seek=1 count=1 conv=notrunc status=none
    expect 0 blkproof img convert -S 2M mixed.img copy.img
    cmp mixed.img copy.img
    equal "$(allocated copy.img)" "$(stat -c %s mixed.img)" "allocated bytes"
    expect 0 blkproof img convert -S 1M mixed.img copy.img
    equal "$(allocated copy.img)" "$(($(stat -c %s mixed.img) - 1048576))" "allocated bytes"
}

# Sectors of data and of zeroes in a pattern without period, so that runs of every length and alignment occur.
make_mixed() {
    perl -e 'srand(7); for (1 .. 6000) { print rand() < 0.5 ? "\0" x (512 * int(1 + rand(12))) : chr(1 + rand(255)) x (512 * int(1 + rand(12))) }' >"$1"
}

@test "runs of zeroes of every length and alignment, into new and into old images" {
    local s
    make_mixed mixed.img
    for s in 512 3k 4k 64k; do
        expect 0 blkproof img convert -S "$s" mixed.img copy.img
        cmp mixed.img copy.img
        pattern_file copy.img "$(stat -c %s mixed.img)" 3
        expect 0 blkproof img convert -W -n -S "$s" mixed.img copy.img
        cmp mixed.img copy.img
    done
}

@test "-n writes in place: zeroes too, and nothing behind the source" {
    make_sparse sparse.img
    pattern_file target.img $((9 * 1024 * 1024)) 7
    cp target.img want.img
    dd if=sparse.img of=want.img conv=notrunc status=none
    local inode
    inode=$(stat -c %i target.img)
    expect 0 blkproof img convert -n sparse.img target.img
    cmp want.img target.img
    equal "$(stat -c %i target.img)" "$inode" "inode"
}

@test "--target-is-zero leaves alone what the source says is zero" {
    make_sparse sparse.img
    pattern_file target.img $((8 * 1024 * 1024)) 7
    expect 0 blkproof img convert -n --target-is-zero sparse.img target.img
    cmp -n $((1024 * 1024)) sparse.img target.img
    # a lie, so that it shows: the hole keeps what was there
    [ "$(hex target.img $((2 * 1024 * 1024)) 16)" != 00000000000000000000000000000000 ]
}

@test "the target keeps its mode, and a symbolic link stays one" {
    mkdir real
    touch real/target.img
    chmod 600 real/target.img
    ln -s real/target.img link.img
    expect 0 blkproof img convert data.img link.img
    [ -L link.img ]
    cmp data.img real/target.img
    equal "$(stat -c %a real/target.img)" 600 "mode"
    (umask 027 && expect 0 blkproof img convert data.img new.img)
    equal "$(stat -c %a new.img)" 640 "mode of a new one"
}

# start_slowly NAME [ARG...]: a conversion that cannot end soon, seen to be under way.
start_slowly() {
    bg "$1" blkproof img convert -r 100k "${@:2}" data.img target.img
    wait_until "a temporary file" sh -c 'ls .blkproof-* >/dev/null 2>&1'
}

@test "SIGTERM, SIGINT, SIGHUP: nothing under the name, nothing beside it" {
    local s
    for s in TERM:143 INT:130 HUP:129; do
        # background jobs of a script ignore SIGINT; perl puts the default back
        bg "$s" perl -e '$SIG{INT} = "DEFAULT"; exec @ARGV' blkproof img convert -r 100k data.img target.img
        wait_until "a temporary file" sh -c 'ls .blkproof-* >/dev/null 2>&1'
        kill -"${s%:*}" "$(pid "$s")"
        local status=0
        reap "$s" || status=$?
        equal "$status" "${s#*:}" "exit status"
        equal "$(ls -A | grep -E 'blkproof|target')" "" "files left"
    done
}

@test "an image that was there before stays until the new one is whole" {
    pattern_file target.img 65536 5
    cp target.img before.img
    start_slowly c
    cmp before.img target.img
    kill -TERM "$(pid c)"
    reap c || true
    cmp before.img target.img
}

@test "a full disk: one sentence, exit 1, nothing left" {
    unshare -rm true 2>/dev/null || skip "no user namespaces here"
    mkdir small
    expect 1 unshare -rm sh -c 'mount -t tmpfs -o size=1m none small && blkproof img convert data.img small/target.img
        status=$?; ls -A small >listing; exit $status'
    matches "$err" '^blkproof: error while writing at byte [0-9]+: No space left on device$'
    equal "$(cat listing)" "" "files left"
}

@test "a file size limit is an error like others" {
    expect 1 sh -c 'ulimit -f 2048 && exec blkproof img convert data.img target.img'
    matches "$err" '^blkproof: .*: File too large$'
    equal "$(ls -A | grep -E 'blkproof|target')" "" "files left"
}

@test "an image that another writes is not replaced" {
    pattern_file target.img 65536 5
    cp target.img before.img
    mkfifo commands
    bg holder sh -c 'exec blkproof io -f raw target.img <commands'
    exec 9>commands
    echo 'read 0 512' >&9
    wait_for_line "$BATS_TEST_TMPDIR/holder.out" 'read 512/512'
    expect 1 blkproof img convert data.img target.img
    contains "$err" 'lock'
    exec 9>&-
    reap holder
    cmp before.img target.img
    equal "$(ls -A | grep blkproof || true)" "" "files left"
}

@test "progress on stdout, in place; none with -q" {
    expect 0 blkproof img convert -p data.img copy.img
    matches "$out" $'^    \\(0.00/100%\\)\r.*    \\(100.00/100%\\)\r$'
    expect 0 blkproof img convert -p -q data.img copy.img
    equal "$output" "" "output"
}

@test "SIGUSR1 asks a run without -p how far it is" {
    start_slowly c
    kill -USR1 "$(pid c)"
    # the line comes with the next piece: let the rest run
    wait_until "progress" sh -c "kill -USR1 $(pid c); grep -q '/100%' c.err"
    matches "$(head -n 1 c.err)" '^    \([0-9.]+/100%\)$'
    kill -TERM "$(pid c)"
    reap c || true
}

@test "words that are wrong: one line, 1; a command line that is wrong: 2" {
    expect 1 blkproof img convert -m 99 data.img copy.img
    equal "$(wc -l <<<"$err")" 1
    expect 1 blkproof img convert -S 5 data.img copy.img
    equal "$(wc -l <<<"$err")" 1
    expect 1 blkproof img convert -O nonsense data.img copy.img
    equal "$err" "blkproof: Unknown file format 'nonsense'"
    expect 2 blkproof img convert data.img
    expect 2 blkproof img convert --nonsense data.img copy.img
    equal "$err" "blkproof: unrecognized option '--nonsense' (see 'blkproof img convert --help')"
    [ ! -e copy.img ]
}
