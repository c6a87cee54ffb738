#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# No preset can wedge a server: each is applied and removed while fio reads and writes; then the disk is whole, and the
# server ends when it is told to.
load ../lib/common
load ../lib/qmp

setup() {
    need fio
    cd "$BATS_TEST_TMPDIR"
    truncate -s 8M disk.img
}

next_operation() { fault s list --json | jq '.[0]["next-operation"]'; }
has_moved() { [ "$(next_operation)" -gt "$1" ]; }

# Clients that come back when the disk has thrown them out.
load_it() {
    while [ ! -e enough ]; do
        fio --name=f --ioengine=nbd --uri="$(uri s)" --size=8M --rw=randrw --bssplit=4k/70:64k/30 --iodepth=8 \
            --fsync=20 --time_based --runtime=60 --continue_on_error=all --exitall_on_error=0 --randrepeat=0 >fio.out 2>&1 || true
    done
}

@test "every preset is applied and removed under load; then the disk is whole" {
    qmp_serve s --time-scale 0.01 --id d -f raw fault::write-cache:disk.img
    load_it 3>&- &
    load=$!
    wait_until "the load" has_moved 100
    local name now args
    for name in $(blkproof fault presets --json | jq -r .name); do
        now=$(next_operation)
        args=()
        case $name in power-*) args=(--param nth=20) ;; silent-after-N) args=(--param n=20) ;; esac
        expect 0 fault s add --preset "$name" "${args[@]}"
        # so much goes on, or nothing does: a silent disk, or one that has gone
        timeout 0.7 bash -c "until [ \$(blkproof fault --qmp unix:$(qmp_sock s) list --json | jq '.[0][\"next-operation\"]') -gt $((now + 100)) ]; do :; done" || true
        expect 0 fault s remove --tag "$name"
        now=$(next_operation)
        wait_until "the load after $name" has_moved $((now + 20))
    done
    touch enough
    pkill -P "$load" fio || true
    wait "$load"
    expect 0 blkproof io -f raw -c 'write -q -P 0x5a 0 8M' -c flush -c 'read -q -P 0x5a 0 8M' "$(uri s)"
    equal "$(fault s list --json | jq -c '.[0] | [.rules, .held, .waiting]')" '[[],[],0]'
    expect 0 stop s
    cmp disk.img <(head -c 8M /dev/zero | tr '\0' Z)
}

@test "a server ends while any preset acts" {
    local name
    for name in silent hdd-tens-of-seconds vanish-reappear ssd-stop-seconds flap-good-bad lse; do
        qmp_serve s --id d -f raw fault::write-cache:disk.img
        expect 0 fault s add --preset "$name"
        bg client blkproof io -f raw -c 'aio_write 0 64k' -c 'aio_read 1M 64k' -c aio_flush "$(uri s)"
        wait_until "requests" has_moved 1
        WAIT_SECONDS=30 stop s
        reap client
        rm -f s.sock
    done
}
