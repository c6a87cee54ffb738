#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Other people's NBD servers under our client: qemu-nbd, qemu-storage-daemon and nbdkit, with raw and
# qcow2 behind. What we write is checked by the servers' own tools, and the other way round.

load ../lib/common
load ../lib/fake_nbd

setup() {
    cd "$BATS_TEST_TMPDIR"
    need qemu-img
}

# Exercise the device of 8 MiB behind server NAME; $1 says which name form.
exercise() { # NAME-OF-SERVER IMAGE FORMAT
    expect 0 timeout 60 blkproof io -f raw -c 'write -P 0x11 0 1M' -c 'write -P 0x22 1M 64k' -c 'write -z 64k 64k' \
        -c 'write -z -u 128k 64k' -c 'discard 256k 64k' -c 'write -f -P 0x33 1000 3000' -c flush \
        -c 'read -P 0x11 0 1000' -c 'read -P 0x33 1000 3000' -c 'read -P 0x11 4000 61536' -c 'read -P 0 64k 128k' \
        -c 'read -P 0x22 1M 64k' -c 'readv -P 0x22 1M 4096 512 60928' -c 'read -P 0 7M 1M' "$(uri "$1")"
    lacks "$output" failed
    expect 0 qemu-io -f "$3" -U -r -c 'read -P 0x11 0 1000' -c 'read -P 0x33 1000 3000' -c 'read -P 0x11 4000 61536' \
        -c 'read -P 0 64k 128k' -c 'read -P 0x22 1M 64k' "$2"
    lacks "$output" failed
    lacks "$output" "Pattern verification"
}

@test "qemu-nbd, raw" {
    truncate -s 8M disk
    qemu_nbd s -f raw --discard=unmap disk
    exercise s disk raw
}

@test "qemu-nbd, qcow2" {
    qemu-img create -q -f qcow2 disk 8M
    qemu_nbd s -f qcow2 --discard=unmap disk
    exercise s disk qcow2
    stop s
    expect 0 qemu-img check -q disk
}

@test "qemu-storage-daemon, raw and qcow2" {
    truncate -s 8M a
    qemu-img create -q -f qcow2 b 8M
    qsd raw driver=file,node-name=f,filename=a,discard=unmap driver=raw,node-name=disk,file=f,discard=unmap
    qsd qcow2 driver=file,node-name=f,filename=b,discard=unmap driver=qcow2,node-name=disk,file=f,discard=unmap
    exercise raw a raw
    exercise qcow2 b qcow2
}

@test "nbdkit: file, and memory with commands taken away" {
    truncate -s 8M disk
    nbdkit_serve s file disk
    exercise s disk raw
    nbdkit_serve poor --filter=nozero --filter=noextents --filter=nocache memory 8M zeromode=none
    expect 0 timeout 60 blkproof io -f raw -c 'write -P 1 0 64k' -c 'write -z 512 512' -c 'write -f -P 2 1k 512' \
        -c 'read -P 1 0 512' -c 'read -P 0 512 512' -c 'read -P 2 1k 512' -c 'discard 0 4k' "$(uri poor)"
    lacks "$output" failed
}

@test "nbdkit: block sizes are kept (its policy filter fails what does not fit)" {
    nbdkit_serve s --filter=blocksize-policy memory 8M blocksize-minimum=4k blocksize-preferred=64k \
        blocksize-maximum=128k blocksize-error-policy=error
    expect 0 timeout 60 blkproof io -f raw -c 'write -P 1 100 3000' -c 'write -P 2 1000k 1M' -c 'read -P 1 100 3000' \
        -c 'read -P 2 1000k 1M' -c 'read -P 0 3100 900' -c 'write -z 1111 2222' -c 'read -P 0 1111 2222' "$(uri s)"
    lacks "$output" failed
}

@test "nbdkit: old servers, without structured replies and with the oldstyle handshake" {
    nbdkit_serve s --no-sr memory 8M
    expect 0 timeout 60 blkproof io -f raw -c 'write -P 1 0 64k' -c 'read -P 1 0 64k' -c map "$(uri s)"
    nbdkit_serve old --oldstyle memory 8M
    # writeback: nbdkit 1.32 offers flush there and refuses it
    expect 0 timeout 60 blkproof io -t writeback -f raw -c 'write -P 1 0 64k' -c 'read -P 1 0 64k' "$(uri old)"
}

@test "nbdkit: errors of the disk arrive as they are" {
    nbdkit_serve s --filter=error memory 8M error=ENOSPC error-pwrite-rate=100%
    expect 1 timeout 60 blkproof io -f raw -c 'write 0 512' "$(uri s)"
    contains "$output" "write failed: No space left on device"
    nbdkit_serve t --filter=error memory 8M error=EIO error-pread-rate=100%
    expect 1 timeout 60 blkproof io -f raw -c 'read 0 512' "$(uri t)"
    contains "$output" "read failed: Input/output error"
}

@test "nbdkit: many requests at once, answered out of order" {
    nbdkit_serve s --filter=delay memory 64M delay-read=2ms delay-write=3ms
    local args=() i
    for i in {1..80}; do args+=(-c "aio_write -P $i ${i}00k 64k"); done
    args+=(-c aio_flush)
    for i in {1..80}; do args+=(-c "aio_read -P $i ${i}00k 64k"); done
    for engine in uring threads; do
        BLKPROOF_ENGINE=$engine expect 0 timeout 60 blkproof io -f raw "${args[@]}" "$(uri s)"
        lacks "$output" failed
        lacks "$output" Pattern
        equal "$(grep -c '^read 65536/65536' <<<"$output")" 80
    done
}

@test "block status is the server's" {
    qemu-img create -q -f qcow2 disk 8M
    qemu-io -f qcow2 -c 'write 1M 64k' -c 'write -z 2M 64k' disk >/dev/null
    qemu_nbd s -f qcow2 -r disk
    expect 0 timeout 60 blkproof img map --output=json -f raw "$(uri s)"
    local ours=${out//, \"compressed\": false/} # newer than qemu-img 7.2
    expect 0 qemu-img map --output=json -f raw "$(uri s)"
    equal "$ours" "${out//, \"compressed\": false/}" "the map"
}

@test "converting out of and into servers keeps every byte" {
    pattern_file src 8388608
    truncate -s 8M dst
    nbdkit_serve a -r file src
    qemu_nbd b -f raw dst
    expect 0 timeout 60 blkproof img convert -n -f raw -O raw "$(uri a)" "$(uri b)"
    cmp src dst
    expect 0 timeout 60 blkproof img compare -f raw -F raw "$(uri a)" "$(uri b)"
}

@test "export names, in every form" {
    truncate -s 1M disk
    bg s qemu-nbd --persistent -f raw -x 'one two' -k "$(sock s)" disk
    wait_for_socket "$(sock s)" s
    expect 0 timeout 60 blkproof io -f raw -c length "nbd:unix:$(sock s):exportname=one two"
    expect 0 timeout 60 blkproof io -f raw -c length "$(uri s one%20two)"
    expect 0 timeout 60 blkproof io --image-opts -c length "driver=nbd,path=$(sock s),export=one two"
    expect 1 timeout 60 blkproof io -f raw -c length "$(uri s other)"
    contains "$err" "server has no export named 'other'"
}

@test "TCP, by address and by name" {
    local port
    port=$(perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport')
    bg s nbdkit --foreground -i 127.0.0.1 -p "$port" memory 1M
    wait_until "the server" bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
    for engine in uring threads; do
        export BLKPROOF_ENGINE=$engine
        expect 0 timeout 60 blkproof io -f raw -c 'write -P 1 0 512' "nbd:127.0.0.1:$port"
        expect 0 timeout 60 blkproof io -f raw -c 'read -P 1 0 512' "nbd://localhost:$port"
        expect 0 timeout 60 blkproof io --image-opts -c 'read -P 1 0 512' "driver=nbd,host=127.0.0.1,port=$port"
        expect 0 timeout 60 blkproof io -c 'read -P 1 0 512' \
            "json:{\"driver\":\"nbd\",\"server\":{\"type\":\"inet\",\"host\":\"127.0.0.1\",\"port\":$port}}"
    done
}

@test "read-only servers" {
    truncate -s 1M disk
    qemu_nbd s -f raw -r disk
    expect 1 timeout 60 blkproof io -f raw -c 'read 0 512' "$(uri s)"
    contains "$err" "read-only"
    expect 0 timeout 60 blkproof io -r -f raw -c 'read 0 512' "$(uri s)"
}

@test "the server lets go of the disk when we have closed" {
    truncate -s 1M disk
    bg s qemu-nbd -f raw -k "$(sock s)" disk # without --persistent: it ends with its client
    wait_for_socket "$(sock s)" s
    expect 0 timeout 60 blkproof io -f raw -c 'write -P 1 0 512' "$(uri s)"
    reap s
    equal "$(hex disk 0 4)" 01010101
}

@test "a killed server ends in errors, a stopped one too" {
    truncate -s 1M disk
    qemu_nbd s -f raw disk
    mkfifo in
    bg io bash -c 'exec timeout 60 blkproof io --image-opts driver=nbd,path="$1",request-timeout=500ms <in' _ "$(sock s)"
    exec {to}>in
    echo 'read 0 512' >&$to
    wait_for_line io.out 'read 512/512'
    kill -STOP "$(pid s)"
    echo 'write 0 512' >&$to
    wait_for_line io.out 'write failed: Connection timed out'
    kill -KILL "$(pid s)"
    echo 'write 0 1024' >&$to
    exec {to}>&-
    local status=0
    reap io || status=$?
    equal "$status" 1
}
