# SPDX-License-Identifier: BSD-2-Clause
# serve --fuse: what a program can do with a disk that is a file.
load ../lib/common
load ../lib/fuse

setup() {
    need_fuse
    cd "$BATS_TEST_TMPDIR"
}

# py CODE: with the disk open as fd.
py() {
    python3 -c "
import os, errno, sys
fd = os.open('disk', os.O_RDWR)
def code(f, *a):
    try: return f(*a)
    except OSError as e: return errno.errorcode[e.errno]
$1"
}

# Calls Python has no name for.
FALLOCATE='
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
KEEP, PUNCH, ZERO = 1, 2, 16
def fallocate(mode, offset, length):
    return "ok" if libc.fallocate(fd, mode, offset, length) == 0 else errno.errorcode[ctypes.get_errno()]
'

@test "what is written to the file is in the image, and the other way round" {
    pattern_file image 3145728 1
    cp image image.before
    pattern_file new 2000001 2
    fuse_serve s disk -f raw image
    cmp disk image.before
    dd if=new of=disk bs=65536 seek=12345 oflag=seek_bytes conv=notrunc status=none
    cmp -n 2000001 -i 0:12345 new disk
    expect 0 stop s
    cmp -n 2000001 -i 0:12345 new image
    cmp -n 12345 image.before image
    cmp -i 2012346 image.before image
    equal "$(stat -c %s image)" 3145728
}

@test "the file is as large as the disk, in bytes and in blocks on the host" {
    truncate -s 1000003 image
    dd if=/dev/zero of=image bs=4096 count=2 conv=notrunc status=none
    fuse_serve s disk -f raw image
    equal "$(stat -c '%s %F %a %h %b' disk)" "1000003 regular file 600 1 16"
    equal "$(stat -f -c '%S %b' disk)" "4096 244"
    expect 0 stop s
    equal "$(stat -c %s disk)" 0
}

@test "reading past the end, and writing there" {
    truncate -s 1000000 image
    fuse_serve s disk -f raw image
    equal "$(py '
print(len(os.pread(fd, 4096, 999000)), len(os.pread(fd, 4096, 1000000)), len(os.pread(fd, 10, 5000000)))
print(os.pwrite(fd, b"a" * 4096, 999000), code(os.pwrite, fd, b"a", 1000000), code(os.pwrite, fd, b"a", 9000000))')" \
        "1000 0 0
1000 ENOSPC ENOSPC"
    expect 0 stop s
    equal "$(stat -c %s image)" 1000000
    equal "$(hex image 999000 2)" 6161
}

@test "the size is fixed, unless --fuse-growable" {
    truncate -s 1M image
    fuse_serve s disk -f raw image
    equal "$(py '
print(code(os.ftruncate, fd, 4096), code(os.ftruncate, fd, 1 << 30), code(os.ftruncate, fd, 1 << 20))')" \
        "EPERM EPERM None"
    ! true 2>/dev/null >disk
    expect 0 stop s
    equal "$(stat -c %s image)" 1048576
    fuse_serve s disk --fuse-growable -f raw image
    equal "$(py "
$FALLOCATE
print(os.pwrite(fd, b'a' * 5, 2000000), os.fstat(fd).st_size)
os.ftruncate(fd, 512); print(os.fstat(fd).st_size)
print(fallocate(0, 0, 8192), os.fstat(fd).st_size, fallocate(0, 0, 4096))
print(fallocate(ZERO, 0, 16384), os.fstat(fd).st_size)
print(fallocate(ZERO | KEEP, 0, 32768), os.fstat(fd).st_size)")" \
        "5 2000005
512
ok 8192 ENOTSUP
ok 16384
ok 16384"
    expect 0 stop s
    equal "$(stat -c %s image)" 16384
}

@test "two that grow the disk at once do not cut each other off" {
    truncate -s 4096 image
    fuse_serve s disk --fuse-growable 'json:{"driver":"delay","write":"1ms","file":{"driver":"file","filename":"image"}}'
    py '
import threading
ts = [threading.Thread(target=os.pwrite, args=(fd, bytes([i]) * 4096, i * 4096)) for i in range(40, 0, -1)]
for t in ts: t.start()
for t in ts: t.join()
assert os.fstat(fd).st_size == 41 * 4096, os.fstat(fd).st_size
for i in range(1, 41): assert os.pread(fd, 4096, i * 4096) == bytes([i]) * 4096, i'
    expect 0 stop s
}

@test "punched holes and zeroed ranges read as zeroes; only holes give space back" {
    pattern_file image 4194304
    fuse_serve s disk -f raw image
    equal "$(py "
$FALLOCATE
print(fallocate(PUNCH | KEEP, 1048576, 1048576), fallocate(ZERO, 3145728, 524288))
print(fallocate(PUNCH | KEEP, 100, 5000), fallocate(ZERO, 4194304, 1), fallocate(PUNCH | KEEP, 5000000, 4096))
assert os.pread(fd, 1048576, 1048576) == bytes(1048576)
assert os.pread(fd, 524288, 3145728) == bytes(524288)
assert os.pread(fd, 5000, 100) == bytes(5000)
assert b'\0' not in os.pread(fd, 84, 16) and b'\0' not in os.pread(fd, 1000, 5200)")" \
        "ok ok
ok ENOSPC ok"
    equal "$(stat -c %b disk)" "$(stat -c %b image)"
    expect 0 stop s
    [ "$(stat -c %b image)" -le $(((4194304 - 1048576) / 512)) ]
    [ "$(stat -c %b image)" -ge $(((4194304 - 1048576 - 8192) / 512)) ]
}

@test "a large hole on a device that has no fast zeroes is refused; a small one is written" {
    nbdkit_serve dev --filter=nozero memory 8M
    fuse_serve s disk "$(uri dev)"
    equal "$(py "
$FALLOCATE
os.pwrite(fd, b'x' * 8388608, 0)
print(fallocate(PUNCH | KEEP, 4096, 65536), fallocate(PUNCH | KEEP, 1048576, 7340032), fallocate(PUNCH | KEEP, 0, 8388608))
assert os.pread(fd, 65536, 4096) == bytes(65536)
assert os.pread(fd, 1048576, 1048576) == bytes(1048576)
assert os.pread(fd, 6291456, 2097152) == b'x' * 6291456
print(fallocate(ZERO, 0, 8388608))
assert os.pread(fd, 8388608, 0) == bytes(8388608)")" \
        "ok ENOTSUP ENOTSUP
ok"
    expect 0 stop s
}

@test "SEEK_DATA and SEEK_HOLE tell what the image tells" {
    truncate -s 1M image
    for at in 16 17 100; do printf x | dd of=image bs=4096 seek=$at conv=notrunc status=none; done
    fuse_serve s disk -f raw image
    code='
import os, sys
def code(at, what):
    try: return os.lseek(fd, at, what)
    except OSError as e: return e.errno
for name in sys.argv[1:]:
    fd = os.open(name, os.O_RDONLY)
    print([(code(at, os.SEEK_DATA), code(at, os.SEEK_HOLE)) for at in (0, 1, 65536, 70000, 73728, 409600, 413696, 1048575, 1048576, 1 << 40)])'
    python3 -c "$code" disk >told
    expect 0 stop s
    equal "$(<told)" "$(python3 -c "$code" image)"
    contains "$(<told)" "[(65536, 0), (65536, 1), (65536, 73728), (70000, 73728), (409600, 73728), (409600, 413696), (6, 413696), (6, 1048575), (6, 6), (6, 6)]"
}

@test "--read-only: nobody can write, or open for writing" {
    pattern_file image 65536
    fuse_serve s disk --read-only -f raw image
    equal "$(stat -c %a disk)" 400
    cmp disk image
    equal "$(python3 -c '
import os, errno
for flags in os.O_RDWR, os.O_WRONLY:
    try: print(os.open("disk", flags))
    except OSError as e: print(errno.errorcode[e.errno])')" "EROFS
EROFS"
    expect 0 stop s
}

@test "an error of the disk is the error of the call, and the next one goes on" {
    nbdkit_serve dev --filter=error memory 1M error=ENOSPC error-pwrite-rate=100% error-file=trigger
    fuse_serve s disk "$(uri dev)"
    equal "$(py '
print(code(os.pwrite, fd, b"a" * 512, 0))
open("trigger", "w"); print(code(os.pwrite, fd, b"b" * 512, 0))
os.unlink("trigger"); print(code(os.pwrite, fd, b"c" * 512, 512))
print(os.pread(fd, 513, 0)[511:])')" "512
ENOSPC
512
b'ac'"
    expect 0 stop s
}

@test "fsync, fdatasync, the close of a writer and O_DSYNC writes make it durable; reads and their close do not" {
    nbdkit_serve dev --filter=log memory 1M logfile=log
    fuse_serve s disk "$(uri dev)"
    py '
base = open("log").read().count("Flush")
def flushes(): return open("log").read().count("Flush") - base
def fuas(): return sum("Write id" in l and "fua=1" in l for l in open("log"))
os.pwrite(fd, b"a" * 512, 0); assert flushes() == 0, flushes()
os.fsync(fd); one = flushes(); assert one > 0
os.fdatasync(fd); assert flushes() == 2 * one
r = os.open("disk", os.O_RDONLY); os.pread(r, 512, 0); os.close(r); assert flushes() == 2 * one
w = os.open("disk", os.O_RDWR); os.close(w); assert flushes() == 3 * one
assert fuas() == 0
os.pwritev(fd, [b"b" * 512], 0, os.RWF_DSYNC); assert fuas() == 1, open("log").read()
d = os.open("disk", os.O_RDWR | os.O_DSYNC); os.pwrite(d, b"c" * 512, 0); assert fuas() == 2
assert flushes() == 3 * one'
    expect 0 stop s
}

@test "requests are in flight together" {
    truncate -s 1M image
    fuse_serve s disk 'json:{"driver":"delay","read":"1000000s","file":{"driver":"file","filename":"image"}}'
    for i in 0 1 2 3 4 5 6 7; do
        bg "reader$i" dd if=disk of=/dev/null bs=4096 skip=$i count=1 status=none
    done
    waiting() { # by the kernel's count
        local dev n
        dev=$(awk -v p="$BATS_TEST_TMPDIR/disk" '$5 == p { split($3, d, ":"); print d[2] }' /proc/self/mountinfo)
        mkdir -p ctl
        mount -t fusectl none ctl
        n=$(<"ctl/$dev/waiting")
        umount ctl
        [ "$n" = "$1" ]
    }
    if [ "$(id -u)" = 0 ]; then wait_until "eight requests" waiting 8; fi
    # A ninth client is served meanwhile.
    timeout 60 dd if=/dev/zero of=disk bs=4096 count=1 seek=9 conv=notrunc status=none
    equal "$(stat -c %s disk)" 1048576
    kill -KILL "$(pid s)"
    reap s || true
    for i in 0 1 2 3 4 5 6 7; do ! reap "reader$i" || fail "reader $i was told that all is well"; done
}
