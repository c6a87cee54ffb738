# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Servers with a monitor. Use after ../lib/common:
#
#     qmp_serve NAME ARG...    as serve, with --qmp on $(qmp_sock NAME)
#     qmp NAME COMMAND...      send each (JSON text), print the replies
#     qmp_python NAME          run the Python on stdin, with `c`, a Client, `path`, the socket, `nbd`, a URI, and what
#                              lib/qmp.py has
#     fault NAME ARG...        blkproof fault --qmp ...

qmp_sock() {
    echo "$BATS_TEST_TMPDIR/$1.qmp"
}

qmp_serve() {
    local name=$1
    shift
    serve "$name" --qmp "unix:$(qmp_sock "$name"),server=on,wait=off" "$@"
    wait_for_socket "$(qmp_sock "$name")" "$name"
}

qmp() {
    local name=$1
    shift
    python3 "$TOP/tests/lib/qmp.py" "$(qmp_sock "$name")" "$@"
}

qmp_python() {
    {
        printf 'import sys, os, json, socket, subprocess\nsys.path.insert(0, "%s/tests/lib")\nfrom qmp import *\n' "$TOP"
        printf 'path, nbd = "%s", "%s"\nc = Client(path)\n' "$(qmp_sock "$1")" "$(uri "$1")"
        cat
    } >"$BATS_TEST_TMPDIR/script.py"
    python3 "$BATS_TEST_TMPDIR/script.py"
}

fault() {
    local name=$1
    shift
    blkproof fault --qmp "unix:$(qmp_sock "$name")" "$@"
}
