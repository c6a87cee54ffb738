#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# The examples of actions in the manual page of fault, each run; and a disk that goes away under its clients.

load ../lib/common
load ../lib/fuse

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M a.raw
    # the example below the heading of each action: NAME.json
    awk '/^\*[a-z-]+\*$/ { gsub(/\*/, ""); name = $0 } /^# DAMAGE/ { name = "" }
        /^```/ { inside = !inside; next } inside && name { print >(name ".json") }' "$TOP/docs/blkproof-fault.7.scd"
}

# with ACTION COMMAND...: commands of io on a disk with the example's rules.
with() {
    local rules=$1.json args=()
    shift
    for c in "$@"; do args+=(-c "$c"); done
    run blkproof io -t writeback "${args[@]}" "fault:$rules:a.raw"
}
# has FILE OFFSET BYTES BYTE: these bytes are all the same.
has() { equal "$(dd if="$1" bs=1 skip="$2" count="$3" status=none | od -An -v -tu1 -w1 | sort -u | tr -d ' \n')" "$4"; }

@test "deferred-error: the flush fails, and the data is gone" {
    with deferred-error 'write -q -P 1 64k 4k' 'read -q -P 1 64k 4k' flush 'read -q -P 0 64k 4k'
    equal "$status:$output" "1:" # a flush of io says nothing
    run blkproof io -c 'write -q -P 1 64k 4k' fault:deferred-error.json:a.raw
    equal "$output" "write failed: Input/output error"
    has a.raw 65536 4096 0
}

@test "lost: the second write is acknowledged" {
    with lost 'write -q -P 1 0 4k' 'write -q -P 2 0 4k' 'read -q -P 1 0 4k'
    equal "$status:$output" "0:"
}

@test "torn: three sectors of the second write" {
    with torn 'write -q -P 1 0 4k' 'write -q -P 2 0 4k'
    has a.raw 0 1536 2
    has a.raw 1536 2560 1
}

@test "misdirect: the second write lies 8k further on" {
    with misdirect 'write -q -P 1 0 16k' 'write -q -P 2 4k 512'
    has a.raw 0 12288 1
    has a.raw 12288 512 2
}

@test "corrupt: a bit, the same one again" {
    with corrupt 'write -q -P 1 0 16k' 'read -q -P 1 4k 4k' 'read -v 4k 4k' 'read -v 4k 4k' 'read -q -P 1 0 4k'
    local lines
    lines=$(grep '^0000' <<<"$output")
    equal "$(grep -c '01 01 01 01 01 01 01 01  *01 01 01 01 01 01 01 01' <<<"$lines")" 510
    equal "$(grep -v '01 01 01 01 01 01 01 01  *01 01 01 01 01 01 01 01' <<<"$lines" | sort -u | wc -l)" 1
    contains "$output" "Pattern verification failed"
    has a.raw 0 16384 1
}

@test "reorder: what waits is there for everybody, and on the disk in the end" {
    with reorder 'write -q -P 1 0 4k' 'write -q -P 2 4k 4k' 'write -q -P 3 2k 4k' 'read -q -P 1 0 2k' 'read -q -P 3 2k 4k' 'read -q -P 2 6k 2k'
    equal "$status:$output" "0:"
    has a.raw 0 2048 1
    has a.raw 2048 4096 3
    has a.raw 6144 2048 2
}

@test "replay: the first write comes again over the second" {
    with replay 'write -q -P 1 0 4k' 'write -q -P 2 0 4k' 'write -q -P 3 8k 4k' 'write -q -P 4 16k 4k' 'read -q -P 1 0 4k'
    equal "$status:$output" "0:"
}

@test "stale: what was there two writes ago, once" {
    with stale 'write -q -P 1 0 4k' 'write -q -P 2 0 4k' 'read -q -P 2 0 4k' 'write -q -P 3 0 4k' 'read -q -P 1 0 4k' 'read -q -P 3 0 4k'
    equal "$output" ""
}

@test "bad-sectors: until they are written" {
    with bad-sectors 'read -q 0 4k' 'read -q 4k 512' 'write -q 4k 512' 'read -q 4k 512' 'read -q 5632 512'
    equal "$output" $'read failed: Input/output error\nread failed: Input/output error'
}

@test "read-only: after the first write" {
    with read-only 'write -q 0 512' 'write -q 0 512' 'read -q 0 512'
    equal "$output" "write failed: Read-only file system"
}

@test "full: nothing is written in the upper half" {
    with full 'write -q 0 512k' 'write -q 511k 2k' 'read -q 512k 512k'
    equal "$output" "write failed: No space left on device"
}

@test "shrink: the upper half is not there" {
    with shrink 'write -q 0 512k' 'write -q 600k 2k' 'read -q 512k 512'
    equal "$output" $'write failed: No such device or address\nread failed: No such device or address'
}

@test "wrap: what is written behind the end is at the beginning" {
    with wrap 'write -q -P 1 0 64k' 'write -q -P 2 64k 4k' 'read -q -P 2 0 4k' 'read -q -P 1 4k 60k'
    equal "$status:$output" "0:"
    has a.raw 0 4096 2
}

@test "disconnect: an NBD client is dropped, and may come again when the disk is back" {
    bg serve blkproof serve --nbd unix:s --qmp unix:q fault:disconnect.json:a.raw
    wait_for_socket s serve
    wait_for_socket q serve
    expect 1 blkproof io -f raw -c 'write -q 0 512' -c 'write -q 0 512' -c 'read -q 0 512' 'nbd+unix:///?socket=s'
    back() { blkproof io -f raw -c 'write -q 0 512' 'nbd+unix:///?socket=s'; }
    wait_until "the disk" back
    # for ever, until it is released
    expect 0 blkproof fault --qmp unix:q add --id=gone --op=flush --action=disconnect
    run blkproof io -f raw -c flush 'nbd+unix:///?socket=s'
    expect 1 blkproof io -f raw -c 'read -q 0 512' 'nbd+unix:///?socket=s'
    expect 0 blkproof fault --qmp unix:q release gone
    expect 0 blkproof io -f raw -c 'read -q 0 512' 'nbd+unix:///?socket=s'
    expect 0 blkproof fault --qmp unix:q remove gone
    expect 0 stop serve
}

@test "disconnect: a file that is a disk answers EIO, and goes on when the rule is removed" {
    need_fuse
    : >disk
    bg serve blkproof serve --fuse disk --qmp unix:q fault::a.raw
    wait_until "the mount" mounted disk
    wait_for_socket q serve
    dd if=/dev/urandom of=disk bs=4k count=1 conv=notrunc status=none
    expect 0 blkproof fault --qmp unix:q add --id=gone --op=write --count=1 --action=disconnect
    expect 1 dd if=/dev/zero of=disk bs=4k count=1 conv=notrunc status=none
    contains "$err" "Input/output error"
    expect 1 dd if=disk of=/dev/null bs=4k count=1 status=none
    contains "$err" "Input/output error"
    equal "$(stat -c %s disk)" 1048576
    expect 0 blkproof fault --qmp unix:q remove gone
    expect 0 cmp disk a.raw
    # a disk that has gone for ever keeps nobody from ending
    expect 0 blkproof fault --qmp unix:q add --op=write --action=disconnect --deadman=0
    expect 1 dd if=/dev/zero of=disk bs=4k count=1 conv=notrunc status=none
    expect 0 stop serve
}
