# SPDX-License-Identifier: BSD-2-Clause
# serve: how it ends: signals, the last client, what is left behind, what was acknowledged.
load ../lib/common

setup() {
    need nbdsh
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M disk.img
}

socket_gone() { [ ! -e "$(sock "$1")" ]; }

@test "SIGTERM, SIGINT and SIGHUP: exit status 0, the socket and the pid file are gone" {
    for signal in TERM INT HUP; do
        serve s --pid-file pid -f raw disk.img
        equal "$(cat pid)" "$(pid s)"
        kill -"$signal" "$(pid s)"
        expect 0 reap s
        [ ! -e "$(sock s)" ]
        [ ! -e pid ]
        equal "$(cat s.err)" ""
    done
}

@test "under nohup, SIGHUP does nothing" {
    trap '' HUP
    serve s --pid-file pid -f raw disk.img
    trap - HUP
    kill -HUP "$(pid s)"
    for i in 1 2 3; do nbdsh -u "$(uri s)" -c 'h.pread(512, 0)'; done
    [ -e pid ]
    expect 0 stop s
}

@test "a signal ends a server whose image cannot be opened yet" {
    bg silent python3 -c "
import socket, time
s = socket.socket(socket.AF_UNIX)
s.bind('silent.sock')
s.listen()
time.sleep(3600)"
    wait_for_socket silent.sock silent
    for signal in INT:130 TERM:143 HUP:129; do
        bg s blkproof serve --nbd "unix:$(sock s)" --image-opts \
            driver=nbd,server.type=unix,server.path=silent.sock,connect-timeout=0
        wait_until "the server's signalfd" grep -qsr '^sigmask:' "/proc/$(pid s)/fdinfo"
        kill -"${signal%:*}" "$(pid s)"
        expect "${signal#*:}" reap s
        [ ! -e "$(sock s)" ]
    done
}

@test "a request that is under way when the signal comes is finished and answered" {
    # 1.5 s: long enough for the signal to come before the end.
    serve s 'json:{"driver":"delay","write":"1500ms","file":{"driver":"file","filename":"disk.img"}}'
    bg client nbdsh -u "$(uri s)" -c '
c = h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"A" * 512)), 512)
while h.aio_in_flight() and h.aio_get_direction() & 2:
    h.poll(-1)
print("asked", flush=True)
while not h.aio_command_completed(c):
    h.poll(-1)
print("answered", flush=True)'
    wait_for_line client.out asked
    kill -TERM "$(pid s)"
    expect 0 reap client
    expect 0 reap s
    equal "$(cat client.out)" "asked
answered"
    equal "$(hex disk.img 512 4)" 41414141
}

@test "a second signal does not wait for a device that hangs" {
    serve s --pid-file pid 'json:{"driver":"delay","write":"1000000s","file":{"driver":"file","filename":"disk.img"}}'
    bg client nbdsh -u "$(uri s)" -c '
c = h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"A" * 512)), 512)
while h.aio_in_flight() and h.aio_get_direction() & 2:
    h.poll(-1)
print("asked", flush=True)
h.poll(-1)'
    wait_for_line client.out asked
    kill -TERM "$(pid s)"
    wait_until "the server accepts nobody" socket_gone s
    kill -TERM "$(pid s)"
    expect 143 reap s
    equal "$(cat s.err)" "blkproof: asked twice to end: requests under way are not finished"
    [ ! -e pid ]
    [ ! -e "$(sock s)" ]
    reap client || true
}

@test "--once ends with the last client" {
    serve s --once -f raw disk.img
    nbdsh -u "$(uri s)" -c 'h.pwrite(b"B" * 512, 0)'
    expect 0 reap s
    equal "$(hex disk.img 0 2)" 4242
}

@test "--once waits for all clients that are there" {
    serve s --once -f raw disk.img
    nbdsh -c "
h2 = nbd.NBD()
h.connect_uri('$(uri s)')
h2.connect_uri('$(uri s)')
h2.shutdown()
h.pwrite(b'C' * 512, 0)
h.shutdown()"
    expect 0 reap s
    equal "$(hex disk.img 0 2)" 4343
}

@test "a socket left by a killed server is replaced, one in use is not" {
    serve s -f raw disk.img
    expect 1 blkproof serve --nbd "unix:$(sock s)" -f raw --read-only disk.img
    equal "$err" "blkproof: listen on 'unix:$(sock s)': Address already in use"
    kill -KILL "$(pid s)"
    reap s || true
    [ -S "$(sock s)" ]
    serve s -f raw disk.img
    stop s
}

@test "acknowledged and flushed data survives a killed server" {
    serve s -f raw disk.img
    nbdsh -u "$(uri s)" -c "
import os, signal
h.pwrite(b'D' * 4096, 4096)
h.flush()
os.kill($(pid s), signal.SIGKILL)"
    reap s || true
    equal "$(hex disk.img 4096 2)" 4444
}

@test "a killed client leaves the server and others unharmed" {
    serve s -f raw disk.img
    # Not through the function of common.bash: the process itself is to be killed.
    bg client env PATH="/usr/bin:$PATH" nbdsh -u "$(uri s)" -c '
print("there", flush=True)
while True: h.pwrite(b"E" * 65536, 0)'
    wait_for_line client.out there
    kill -KILL "$(pid client)"
    reap client || true
    nbdsh -u "$(uri s)" -c 'h.pwrite(b"F" * 512, 0)'
    expect 0 stop s
    equal "$(hex disk.img 0 2)" 4646
}
