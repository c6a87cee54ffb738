# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Differential tests against qemu-img: the same command line is given to it and to blkproof under
# that name, each in a folder of its own that `make_files` (of the test file) has filled, and what
# they print, their exit status and the files they leave must be the same.
#
# Filtered, because newer versions of QEMU (or this project, on purpose) say otherwise than 7.2:
# "compressed" in map, the child nodes of info, an error's file name said twice, a number beside an error's text.

load ../lib/common

peer_setup() {
    need qemu-img qemu-io
    mkdir "$BATS_TEST_TMPDIR"/{bin,theirs,ours}
    ln -s "$(type -P blkproof)" "$BATS_TEST_TMPDIR/bin/qemu-img"
    local d
    for d in theirs ours; do
        (cd "$BATS_TEST_TMPDIR/$d" && make_files)
    done
}

peer_filter() {
    perl -0pe '
        s/, "compressed": (true|false)//g;
        s/^Child node .*\n(    .*\n)*//mg;
        s/\n    "children": \[.*?\n    \],//sg;
        s/(Could not open \x27[^\x27]*\x27: )\1/$1/g;
        s/#block\d+/#block/g;
        s/(Could not create snapshot \x27[^\x27]*\x27: )-\d+ \((.*)\)$/$1$2/mg;
        s/Run completed in [\d.]+ seconds/Run completed in N seconds/;'
}

peer_run() {
    local program=$1 folder=$2 status=0
    shift 2
    (cd "$BATS_TEST_TMPDIR/$folder" && exec "$program" "$@") \
        >"$BATS_TEST_TMPDIR/$folder.out" 2>"$BATS_TEST_TMPDIR/$folder.err" </dev/null 3>&- || status=$?
    peer_filter <"$BATS_TEST_TMPDIR/$folder.out" | sed 's/^/out: /'
    peer_filter <"$BATS_TEST_TMPDIR/$folder.err" | sed 's/^/err: /'
    echo "status: $status"
}

# same ARG...: both print the same and leave the same files.
same() {
    local theirs ours
    theirs=$(peer_run /usr/bin/qemu-img theirs "$@")
    ours=$(peer_run "$BATS_TEST_TMPDIR/bin/qemu-img" ours "$@")
    equal "$ours" "$theirs" "qemu-img $*" || return 1
    diff -r "$BATS_TEST_TMPDIR/theirs" "$BATS_TEST_TMPDIR/ours" >&2 || fail "qemu-img $*: files differ"
}

# same_words ARG...: both print the same; the files are each one's own.
same_words() {
    local theirs ours
    theirs=$(peer_run /usr/bin/qemu-img theirs "$@")
    ours=$(peer_run "$BATS_TEST_TMPDIR/bin/qemu-img" ours "$@")
    equal "$ours" "$theirs" "qemu-img $*"
}

# same_status ARG...: only the exit status; the sentences and the files are each one's own.
same_status() {
    local theirs ours
    theirs=$(peer_run /usr/bin/qemu-img theirs "$@" | tail -n 1)
    ours=$(peer_run "$BATS_TEST_TMPDIR/bin/qemu-img" ours "$@" | tail -n 1)
    equal "$ours" "$theirs" "exit status of qemu-img $*"
}

# Data, a hole, data, a hole; sizes that are whole sectors, since QEMU rounds.
make_image() {
    truncate -s 1M "$1"
    pattern_file part $((64 * 1024)) "${2:-1}"
    dd if=part of="$1" conv=notrunc status=none
    dd if=part of="$1" conv=notrunc status=none bs=64k seek=8
    rm part
}
