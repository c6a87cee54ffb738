#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img info beside qemu-img info.

load ../lib/img_peer

make_files() {
    make_image a.img
    truncate -s 0 empty.img
    truncate -s 300M large.img
}
setup() { peer_setup; }

# The order of members is not part of JSON: both are sorted.
same_json() {
    local theirs ours
    theirs=$(cd "$BATS_TEST_TMPDIR/theirs" && qemu-img "$@" | python3 -m json.tool --sort-keys)
    ours=$(cd "$BATS_TEST_TMPDIR/ours" && "$BATS_TEST_TMPDIR/bin/qemu-img" "$@" | peer_filter | python3 -m json.tool --sort-keys)
    equal "$ours" "$theirs" "qemu-img $*"
}

@test "the human form" {
    same info a.img
    same info -f raw a.img
    same info empty.img
    same info large.img
    same info -U a.img
    same info --backing-chain a.img
    same info --image-opts driver=raw,file.filename=a.img
    same info 'json:{"driver":"raw","file":{"driver":"file","filename":"a.img"}}'
    same info 'json:{"driver":"file","filename":"a.img"}'
}

@test "the JSON form" {
    same_json info --output=json a.img
    same_json info --output=json large.img
    same_json info --output=json 'json:{"driver":"file","filename":"a.img"}'
}

@test "the JSON form of a chain is a list" {
    local ours
    ours=$(cd "$BATS_TEST_TMPDIR/ours" && blkproof img info --backing-chain --output=json a.img)
    equal "$(python3 -c 'import json, sys; d = json.load(sys.stdin); print(len(d), d[0]["virtual-size"])' <<<"$ours")" "1 1048576"
}

@test "what is refused" {
    same info
    same info a.img b.img
    same info nope.img
    same info -f foo a.img
    same info --output=foo a.img
    same info --image-opts -f raw driver=raw,file.filename=a.img
    same_status info 'json:{"driver":"raw"'
    same_status info 'json:[]'
    same_status info .
    same_status info --image-opts nonsense
}
