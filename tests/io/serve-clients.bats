# SPDX-License-Identifier: BSD-2-Clause
# serve: clients that are too many, too slow, or have nothing to say.
load ../lib/common

setup() {
    need nbdsh python3
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M disk.img
}

@test "--max-clients: one more has to wait until another leaves" {
    serve s --max-clients=1 -f raw disk.img
    nbdsh -c "
import socket, select
h.connect_uri('$(uri s)')
s = socket.socket(socket.AF_UNIX)
s.connect('$(sock s)')
for i in range(50): h.pread(4096, 0)
assert not select.select([s], [], [], 0)[0], 'greeted beside the first client'
h.shutdown()
assert s.recv(8) == b'NBDMAGIC'"
    stop s
    contains "$(cat s.err)" "1 clients are connected, the most allowed: others have to wait"
}

@test "--max-clients: whoever waits gets the place, at whichever address" {
    serve s --nbd "unix:$PWD/second" --max-clients=1 -f raw disk.img
    python3 -c "
import socket
def dial(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(path)
    return s
def greeted(s): assert s.recv(18, socket.MSG_WAITALL) == b'NBDMAGICIHAVEOPT\0\3'
first = dial('$(sock s)')
greeted(first) # the listener of the first address waits for a place from here on
others = [dial('second'), dial('$(sock s)')]
first.close()
# One of them is next, and when it leaves, the other.
import select
for n in (2, 1):
    ready = select.select(others, [], [], 60)[0]
    assert len(ready) == 1, ready
    greeted(ready[0])
    others.remove(ready[0])
    ready[0].close()
second = dial('second')
greeted(second)"
}

@test "out of descriptors, clients wait, and it is said once" {
    bg s bash -c "ulimit -n 16; exec blkproof serve --nbd 'unix:$(sock s)' --handshake-timeout=0 -f raw disk.img"
    wait_for_socket "$(sock s)" s
    python3 -c "
import socket, time
def dial():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect('$(sock s)')
    return s
all = [dial() for i in range(40)] # more than 16: each gets its turn when those before it have gone
while 'Too many open files' not in open('s.err').read():
    time.sleep(0.01)
for s in all:
    assert s.recv(18, socket.MSG_WAITALL) == b'NBDMAGICIHAVEOPT\0\3'
    s.close()"
    nbdsh -u "$(uri s)" -c 'h.pread(512, 0)'
    expect 0 stop s
    equal "$(grep -c 'Too many open files' s.err)" 1
}

@test "--handshake-timeout drops who says nothing" {
    serve s --handshake-timeout=50ms -f raw disk.img
    python3 -c "
import socket
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect('$(sock s)')
assert s.recv(18) == b'NBDMAGICIHAVEOPT\0\3'
assert s.recv(1) == b''"
    nbdsh -u "$(uri s)" -c 'h.pread(512, 0)'
}

@test "clients that flood, stall and lie do not slow down another" {
    serve s -f raw disk.img
    bg evil python3 -c "
import socket, struct, os, time
def dial():
    s = socket.socket(socket.AF_UNIX)
    s.connect('$(sock s)')
    s.recv(18, socket.MSG_WAITALL)
    s.send(struct.pack('>I', 3))
    s.send(b'IHAVEOPT' + struct.pack('>IIIH', 7, 6, 0, 0))
    s.recv(32 + 20, socket.MSG_WAITALL)
    return s
evil = [dial() for i in range(20)]
for s in evil[:10]: # reads whose data nobody takes
    s.setblocking(False)
    try:
        while True: s.send(struct.pack('>IHHQQI', 0x25609513, 0, 0, 1, 0, 1 << 20) * 100)
    except BlockingIOError: pass
for s in evil[10:15]: s.send(struct.pack('>IHHQQI', 0x25609513, 0, 1, 1, 0, 1 << 20) + b'x' * 100000) # half a write
for s in evil[15:]: s.send(os.urandom(10000))
print('done', flush=True)
time.sleep(3600)"
    wait_for_line evil.out done
    nbdsh -u "$(uri s)" -c '
for i in range(100):
    h.pwrite(bytes([i]) * 4096, 4096 * i)
    assert h.pread(4096, 4096 * i) == bytes([i]) * 4096'
    # 10 floods of 64 MiB each would be allowed; their memory is touched only as far as it was read into.
    rss=$(awk '/VmRSS/ { print $2 }' "/proc/$(pid s)/status")
    [ "$rss" -lt $((800 * 1024)) ] || fail "the server uses $rss KiB"
    kill -KILL "$(pid evil)"
    reap evil || true
    expect 0 stop s
}
