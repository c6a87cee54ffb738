# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Runs QEMU's qemu-io and us under its name, with the same arguments on images that begin alike, and
# compares everything there is: stdout, stderr, exit status, and the images afterwards. Only times and
# rates are taken out, and what newer versions of QEMU than the installed one say differently.

# In the working directory: 1 MiB of zeroes, the same with 0xcd in its first sector (twice), nothing,
# ten bytes to write from.
make_images() {
    truncate -s 1M a.raw h.raw c.raw
    perl -e 'print "\xcd" x 512' | dd of=h.raw conv=notrunc status=none
    cp h.raw c.raw
    : >z.raw
    printf 'aZ9 ~_!\n\0\377' >pattern
    mkdir dir
}

setup_peers() {
    need qemu-io
    QEMU_IO=$(command -v qemu-io)
    mkdir -p "$BATS_TEST_TMPDIR/bin"
    ln -sf "$(command -v blkproof)" "$BATS_TEST_TMPDIR/bin/qemu-io"
}

# -r of read and its like came with QEMU 8.0, the zone commands with 8.1.
filter_io() {
    sed -E 's/; [0-9:.]+( sec)? \([^()]*sec\)$/; TIME (RATE)/
        s/^(([a-z-]+> )*[0-9]+,[0-9]+),[0-9:.]+,[0-9.]+,[0-9.]+$/\1,TIME,RATE/
        s/^(([a-z-]+> )*(read|readv|write|writev|aio_read|aio_write) \[-[A-Za-z]*)r/\1/
        /^(([a-z-]+> )*)zone_/d'
}

# run_peer DIR PROGRAM ARG...: everything that PROGRAM does, as text.
run_peer() {
    local dir=$BATS_TEST_TMPDIR/$1 program=$2 status=0
    shift 2
    rm -rf "$BATS_TEST_TMPDIR/work"
    mkdir -p "$dir" "$BATS_TEST_TMPDIR/work"
    (
        cd "$BATS_TEST_TMPDIR/work" || exit
        make_images
        [ ! -e ../stdin ] || exec <../stdin
        timeout 60 "$program" "$@" >"$dir/out" 2>"$dir/err" 3>&-
    ) </dev/null || status=$?
    echo "--- stdout" && filter_io <"$dir/out"
    echo "--- stderr" && filter_io <"$dir/err"
    echo "--- status $status"
    (cd "$BATS_TEST_TMPDIR/work" && stat -c '%n %s' -- *.raw && find . -name '*.raw' -size -16M | sort | xargs sha1sum)
}

# same ARG...: fails with a diff (-QEMU +us) unless both do the same.
same() {
    local theirs ours
    theirs=$(run_peer theirs "$QEMU_IO" "$@")
    ours=$(run_peer ours "$BATS_TEST_TMPDIR/bin/qemu-io" "$@")
    [ "$theirs" = "$ours" ] && return 0
    {
        printf 'differs from qemu-io (-QEMU +us): qemu-io'
        printf " '%s'" "$@"
        echo
        diff -u <(echo "$theirs") <(echo "$ours") | tail -n +3
    } >&2
    return 1
}

# same_commands: each line of stdin is a command of its own run, on a raw image. All are tried.
same_commands() {
    local line failed=0
    while IFS= read -r line; do
        same -f raw -c "$line" a.raw || failed=1
    done
    return "$failed"
}
