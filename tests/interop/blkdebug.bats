#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# blkdebug side by side with qemu-io: every event under several histories of an image, every option and rule, the
# configuration file, breakpoints. Compared are stdout (without rates) and the exit status; what QEMU says on stderr when
# it closes an image after errors is left out. Our image must have no corruption afterwards.

load ../lib/common

setup_file() {
    need qemu-io qemu-img
    cd "$BATS_FILE_TMPDIR" || return
    qemu-img create -q -f qcow2 fresh.img 4M
    cp fresh.img filled.img && qemu-io -c 'write 0 1M' filled.img >/dev/null
    cp filled.img snap.img && qemu-img snapshot -c s snap.img
    cp fresh.img comp.img && qemu-io -c 'write -c 0 64k' comp.img >/dev/null
    truncate -s 4M raw.img && cp raw.img base.raw
    qemu-img create -q -f qcow2 -b "$PWD/base.raw" -F raw cow.img
    qemu-img create -q -f qcow2 -o refcount_bits=64,cluster_size=512 tiny.img 4M
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    need qemu-io qemu-img
}

EVENTS="l1_update l1_grow_alloc_table l1_grow_write_table l1_grow_activate_table l2_load l2_update
    l2_update_compressed l2_alloc_cow_read l2_alloc_write read_aio read_backing_aio read_compressed write_aio
    write_compressed vmstate_load vmstate_save cow_read cow_write reftable_load reftable_grow reftable_update
    refblock_load refblock_update refblock_update_part refblock_alloc refblock_alloc_hookup refblock_alloc_write
    refblock_alloc_write_blocks refblock_alloc_write_table refblock_alloc_switch_table cluster_alloc
    cluster_alloc_bytes cluster_free flush_to_os flush_to_disk pwritev_rmw_head pwritev_rmw_after_head
    pwritev_rmw_tail pwritev_rmw_after_tail pwritev pwritev_zero pwritev_done empty_image_prepare
    l1_shrink_write_table l1_shrink_free_l2_clusters cor_write cluster_alloc_space none"

# run_one PROGRAM-WORDS -- IMAGE NAME-PREFIX ARG...: on a copy of the image, called disk.img.
run_one() {
    local program=() status=0
    while [ "$1" != -- ]; do
        program+=("$1")
        shift
    done
    cp "$BATS_FILE_TMPDIR/$2.img" disk.img
    local name=$3
    shift 3
    timeout 60 "${program[@]}" "$@" "$name" 2>err </dev/null 3>&- | sed -E '/^.* ops; /d' || true
    status=${PIPESTATUS[0]}
    echo "status $status"
}

# both IMAGE NAME ARG...: -QEMU +us
both() {
    local theirs ours image=$1
    theirs=$(run_one qemu-io -- "$@")
    ours=$(run_one blkproof io -- "$@")
    if [ "$theirs" != "$ours" ]; then
        echo "differs from qemu-io: $*" >&2
        [ ! -e c.conf ] || cat c.conf >&2
        diff -u <(echo "$theirs") <(echo "$ours") | tail -n +3 >&2
        cat err >&2
        return 1
    fi
    [ "$image" = raw ] || qemu-img check -q disk.img || [ $? = 3 ] # leaks are no harm
}

# Raw is said, not probed: the probe reads more than QEMU's, and QEMU forgets errors of the edges of probed raw.
every_event() { # IMAGE MEMBERS COMMAND...
    local image=$1 members=$2 event args=() c
    shift 2
    [ "$image" != raw ] || args=(-f raw)
    for c; do args+=(-c "$c"); done
    for event in $EVENTS; do
        printf '[inject-error]\nevent = "%s"\n%b' "$event" "$members" >c.conf
        both "$image" blkdebug:c.conf:disk.img -t writeback -d unmap "${args[@]}" || return
    done
}

@test "every event: the first clusters of an image" {
    every_event fresh 'errno = "28"\n' 'write 0 64k' 'read 0 64k' flush
    every_event fresh 'once = "on"\n' 'write 0 64k' 'write 64k 64k' 'read 0 128k' flush
}

@test "every event: writes into, and beside, what is there" {
    every_event filled 'errno = "28"\n' 'write 4k 4k' 'write 2M 4k' 'read 2M 64k' flush 'write 0 4k'
    every_event filled 'once = "on"\niotype = "read"\n' 'write 4k 4k' 'write 2M 4k' 'read 2M 64k' flush 'write 0 4k'
    every_event filled 'once = "on"\niotype = "write"\n' 'write 4k 4k' 'write 2M 4k' 'read 2M 64k' flush 'write 0 4k'
}

@test "every event: copy on write from a backing file and after a snapshot" {
    every_event cow 'once = "on"\n' 'write 4k 4k' 'read 0 64k' 'read 1M 4k'
    every_event snap 'once = "on"\n' 'write 4k 4k' 'write 64k 64k' flush
}

@test "every event: compressed clusters" {
    every_event comp 'once = "on"\n' 'read 0 64k' 'write -c 64k 64k' 'write 0 4k' flush
}

@test "every event: zeroes and discards" {
    every_event filled 'once = "on"\n' 'write -z 0 64k' 'write -z -u 64k 64k' 'write -z 3M 64k' 'discard 128k 64k' flush
}

@test "every event: the VM state, and growing" {
    every_event filled 'once = "on"\n' 'write -b 0 64k' 'read -b 0 64k'
    every_event fresh 'once = "on"\n' 'truncate 2G' 'truncate 1T'
}

@test "every event: refcount blocks and tables that run out" {
    every_event tiny 'once = "on"\n' 'write 0 1M' 'write 1M 1M' 'read 0 2M'
}

@test "every event: raw" {
    every_event raw 'errno = "28"\n' 'read 0 512' 'write 0 512' 'write 100 100' 'write -z 4k 4k' 'discard 8k 4k' flush
    every_event raw 'once = "on"\n' 'read 0 512' 'write 0 512' 'write 100 100' 'write -z 4k 4k' 'discard 8k 4k' flush
}

# rules IMAGE TEXT COMMAND...
rules() {
    local image=$1 args=() c
    printf '%b' "$2" >c.conf
    shift 2
    [ "$image" != raw ] || args=(-f raw)
    for c; do args+=(-c "$c"); done
    both "$image" blkdebug:c.conf:disk.img -t writeback -d unmap "${args[@]}"
}

@test "iotype, sector, errno, immediately" {
    local t
    for t in read write write-zeroes discard flush block-status; do
        rules raw "[inject-error]\nevent = \"none\"\niotype = \"$t\"\n" 'read 0 512' 'write 0 512' 'write -z 0 4k' 'discard 0 4k' flush 'alloc 0'
    done
    for t in 0 1 7 8 9 127 128; do
        rules raw "[inject-error]\nevent = \"none\"\nsector = \"$t\"\n" 'read 0 4k' 'read 4k 4k' 'write 4096 512' 'read 4097 100' 'write -z 60k 8k' flush
    done
    for t in 0 1 5 0x1c 034 22 95 4095; do
        rules raw "[inject-error]\nevent = \"none\"\nerrno = \"$t\"\nimmediately = \"on\"\n" 'read 0 4k' 'write 4k 4k'
    done
}

@test "sticky: armed by an event, for whatever comes" {
    rules raw '[inject-error]\nevent = "read_aio"\n' 'write 0 512' 'read 0 512' 'write 0 512' 'write -z 0 4k' 'discard 0 4k' flush 'read 0 512'
    rules raw '[inject-error]\nevent = "read_aio"\n[inject-error]\nevent = "write_aio"\nerrno = "0"\n' 'read 0 512' flush 'write 0 512' flush 'read 0 512'
    rules raw '[inject-error]\nevent = "read_aio"\nerrno = "28"\n[inject-error]\nevent = "write_aio"\nstate = "2"\n' 'read 0 512' 'write 0 512' flush
}

@test "sticky: states, ping-pong, the state before the event" {
    local pong='[set-state]\nevent = "read_aio"\nstate = "1"\nnew_state = "2"\n[set-state]\nevent = "read_aio"\nstate = "2"\nnew_state = "1"\n'
    rules raw "[inject-error]\nevent = \"read_aio\"\nstate = \"2\"\n$pong" 'read 0 512' 'read 0 512' 'read 0 512' 'read 0 512'
    rules raw "[inject-error]\nevent = \"read_aio\"\nstate = \"2\"\n[inject-error]\nevent = \"read_aio\"\nstate = \"1\"\nerrno = \"0\"\n$pong" 'read 0 512' 'read 0 512' 'read 0 512' 'read 0 512'
    rules raw '[set-state]\nevent = "read_aio"\nnew_state = "5"\n[set-state]\nevent = "read_aio"\nnew_state = "6"\n[inject-error]\nevent = "write_aio"\nstate = "5"\nerrno = "28"\n[inject-error]\nevent = "write_aio"\nstate = "6"\nerrno = "1"\n' 'read 0 512' 'write 0 512'
}

@test "once: one request each, the first in the file first" {
    rules raw '[inject-error]\nevent = "write_aio"\nonce = "on"\nerrno = "28"\n[inject-error]\nevent = "write_aio"\nonce ="on"\nerrno = "1"\n' 'write 0 512' 'read 0 512' 'write 0 512' 'write 0 512'
}

@test "options: dotted, a single rule, JSON; file and options together" {
    printf '[inject-error]\nevent = "none"\niotype = "read"\nonce = "on"\n' >c.conf
    both raw driver=blkdebug,image.filename=disk.img,inject-error.event=none,inject-error.iotype=read,inject-error.errno=28 \
        --image-opts -c 'read 0 512' -c 'write 0 512'
    both raw driver=blkdebug,image.filename=disk.img,config=c.conf,inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=28,inject-error.1.event=none,inject-error.1.iotype=write,inject-error.1.once=on \
        --image-opts -c 'read 0 512' -c 'read 0 512' -c 'write 0 512' -c 'write 0 512'
    both raw 'json:{"driver":"raw","file":{"driver":"blkdebug","image":{"driver":"file","filename":"disk.img"},"set-state":[{"event":"read_aio","new_state":3}],"inject-error":[{"event":"write_aio","state":3,"errno":28,"immediately":true}]}}' \
        -c 'write 0 512' -c 'read 0 512' -c 'write 0 512'
}

@test "limits" {
    local o=driver=blkdebug,image.filename=disk.img v
    for v in align=512 align=4096 align=65536 align=1000 align=3G align=0 max-transfer=65536,align=4096 max-transfer=100,align=512 \
        opt-write-zero=65536,align=4096 opt-write-zero=1000,align=512 opt-write-zero=1536,max-write-zero=3072,align=512 \
        opt-write-zero=1024,max-write-zero=1536,align=512 opt-discard=15k,max-discard=30k,align=512 opt-discard=8k,max-discard=12k,align=4k; do
        both raw "$o,$v" --image-opts -d unmap -c 'write -P 1 100 70000' -c 'write -z 1000 50000' -c 'read -P 1 100 900' -c 'read -P 0 1000 50000' \
            -c 'read -P 1 51000 19100' -c 'discard 0 128k' -c 'write -P 2 4095 2' -c 'read -P 2 4095 2'
    done
}

@test "what a configuration file may be" {
    local text
    for text in '[inject-error]\nevent="x"\n' '[inject-error]\nevent = write_aio\n' '[inject-error]\nevent = "write_aio"\n   \n' \
        'event = "x"\n' '[foo]\n' '[inject-error]\nfoo = "1"\n' '[inject-error]\nevent = "read_aio"\nerrno = "EIO"\n' \
        '[inject-error]\nevent = "read_aio"\nonce = "1"\n' '[inject-error]\n' '[inject-error]\nevent = "foo"\n' \
        '[inject-error]\nevent = "read_aio"\niotype = "foo"\n' '[inject-error\n' ' [inject-error]\n' '[inject-error] x\nevent = "read_aio"\n' \
        '[inject-error "a]\n' '[inject-error]\nevent = "write_aio" junk\n' '[inject-error]\nevent = "write_aio"\nevent = "read_aio"\n' \
        '[inject-error]\nevent = "write_aio"\nerrno = "99999999999999999999"\n' '[inject-error]\nevent = "write_aio"\nsector = "-1"\n' \
        '[inject-error "1a"]\nevent = "write_aio"\n' '# c\r\n[inject-error]\r\nevent = "write_aio"\r\n' '[inject-error]\nevent = "write_aio"' \
        '[inject-error "a"]\nevent = "read_aio"\n[inject-error "a"]\nevent = "write_aio"\n' \
        '[inject-error "a"]\nevent = "read_aio"\n[set-state "a"]\nevent = "write_aio"\n' '[inject-error]\nevent ="read_aio" #\nerrno = ""\n' \
        '[inject-error]\nevent = "read_aio\n' '[inject-error]\nevent = "a"b\n' '[inject-error]\nevent\n' '[]\n' \
        '[set-state]\nevent = "write_aio"\nnew_state = "x"\n' '[inject-error]\n\tevent\t=\t"write_aio"\n' '\n\n#\n[set-state]\nevent = "read_aio"\n' \
        '[inject-error]\nevent = "write_aio"\nonce = "yes"\n' '[inject-error]\nevent = "write_aio"\nonce = "maybe"\n'; do
        rules raw "$text" 'write 0 512' 'read 0 512' 'write 0 512'
    done
    both raw blkdebug:absent:disk.img -c 'read 0 512'
    both raw blkdebug:disk.img -c 'read 0 512'
    both raw blkdebug::absent -c 'read 0 512'
}

@test "breakpoints: stop, wait, resume, remove, and what cannot be" {
    both fresh blkdebug::disk.img -c 'break write_aio A' -c 'aio_write 0 64k' -c 'wait_break A' -c 'break l2_load B' -c 'resume A' \
        -c aio_flush -c 'resume A' -c 'resume B' -c 'remove_break B' -c 'remove_break B' -c 'break foo A' -c 'read 0 64k'
    both fresh blkdebug::disk.img -c 'break l1_update A' -c 'break l1_update B' -c 'aio_write 0 64k' -c 'wait_break A' -c 'wait_break B' \
        -c 'resume B' -c 'resume A' -c aio_flush
    both filled blkdebug::disk.img -c 'break cluster_alloc_space A' -c 'aio_write 2M 4k' -c 'wait_break A' -c 'break l2_load A' \
        -c 'remove_break A' -c aio_flush
    both raw disk.img -f raw -c 'break write_aio A' -c 'resume A' -c 'remove_break A'
}

@test "the node's name" {
    both raw blkdebug::disk.img -f raw -c 'info' -c 'length'
    expect 0 blkproof img info blkdebug::disk.img
    contains "$out" "blkdebug::disk.img"
}
