# SPDX-License-Identifier: BSD-2-Clause
# serve --fuse: mount points that are none, and how it ends.
load ../lib/common
load ../lib/fuse

setup() {
    need_fuse
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M image
}

SLOW='json:{"driver":"delay","write":"1000000s","file":{"driver":"file","filename":"image"}}'

socket_gone() { [ ! -e "$(sock s)" ]; }

# stuck NAME N: a writer of disk that waits for the answer to a write of its N-th block.
stuck() {
    bg "$1" python3 -c "
import os, errno
fd = os.open('disk', os.O_WRONLY)
print('asks', flush=True)
try: os.pwrite(fd, b'a' * 4096, $2 * 4096); print('done')
except OSError as e: print(errno.errorcode[e.errno])
try: os.close(fd); print('closed')
except OSError as e: print(errno.errorcode[e.errno])"
    wait_for_line "$1.out" asks
    wait_until "a waiting writer" waits_for_fuse "$(pid "$1")"
}
waits_for_fuse() { [ "$(<"/proc/$1/wchan")" = request_wait_answer ]; }

@test "the mount point has to be a file that is there" {
    mkdir dir
    expect 1 blkproof serve --fuse missing -f raw image
    equal "$output" "blkproof: cannot export at 'missing': there is no such file (an empty one will do)"
    expect 1 blkproof serve --fuse dir -f raw image
    equal "$output" "blkproof: cannot export at '$PWD/dir': it is a directory, and a disk is mounted on a regular file"
    expect 1 blkproof serve --fuse /dev/null -f raw image
    equal "$output" "blkproof: cannot export at '/dev/null': it is not a regular file, and a disk is mounted on a regular file"
}

@test "the arguments that make no sense" {
    : >f
    expect 2 blkproof serve --fuse f a=image b=image
    equal "$output" "blkproof: --fuse=f: which of the images? --fuse=NAME=f (see 'blkproof serve --help')"
    expect 2 blkproof serve --fuse c=f a=image b=image
    equal "$output" "blkproof: --fuse=c=f: no image has the export name 'c' (see 'blkproof serve --help')"
    expect 2 blkproof serve --fuse-growable --fuse f --fuse g image
    equal "$output" "blkproof: --fuse=g: with --fuse-growable a disk has one place only (see 'blkproof serve --help')"
    expect 2 blkproof serve --fuse-growable image
    equal "$output" "blkproof: --fuse-growable is of no use without --fuse=FILE (see 'blkproof serve --help')"
    expect 2 blkproof serve --fuse-allow-other image
    equal "$output" "blkproof: --fuse-allow-other is of no use without --fuse=FILE (see 'blkproof serve --help')"
}

@test "several disks, one of them twice, and NBD beside them" {
    pattern_file one 65536 1
    pattern_file two 131072 2
    : >f1; : >f2; : >f3
    serve s --json -f raw --fuse a=f1 --fuse b=f2 --fuse b=./f3 a=one b=two
    cmp f1 one
    cmp f2 two
    cmp f3 two
    equal "$(jq -c '[.exports[] | [.name, .size, .fuse, (.uri | length)]]' s.out)" \
        "[[\"a\",65536,[\"$PWD/f1\"],1],[\"b\",131072,[\"$PWD/f2\",\"$PWD/f3\"],1]]"
    printf x | dd of=f2 conv=notrunc status=none
    equal "$(hex f3 0 1)" 78
    expect 0 stop s
    for f in f1 f2 f3; do not_mounted $f; equal "$(stat -c %s $f)" 0; done
}

@test "without --nbd nothing listens; what is told about readiness" {
    fuse_serve s disk -f raw image
    equal "$(<s.out)" "serving $PWD/disk (1 MiB)"
    [ -z "$(find "/proc/$(pid s)/fd" -lname 'socket:*')" ]
    expect 0 stop s
}

@test "--run: the command finds the file in \$fuse, its end is ours" {
    : >disk
    expect 7 blkproof serve --fuse disk -f raw --run 'stat -c "%n %s" "$fuse"; exit 7' image
    equal "$output" "$PWD/disk 1048576"
    not_mounted disk
}

@test "--once: when the last one has closed it" {
    fuse_serve s disk --once -f raw image
    stat disk >/dev/null
    exec 5<disk
    cmp disk image
    cat "/proc/$(pid s)/comm" >/dev/null
    exec 5<&-
    expect 0 reap s
    not_mounted disk
}

@test "the image itself may be the mount point; then the image is there again" {
    pattern_file image 1048576
    cp image before
    fuse_serve s image -f raw image
    cmp image before
    printf xyz | dd of=image bs=4096 seek=1 conv=notrunc status=none
    expect 0 stop s
    not_mounted image
    equal "$(hex image 4096 3)" 78797a
}

@test "a place that another server uses is refused" {
    fuse_serve s disk -f raw image
    truncate -s 1M other
    expect 1 blkproof serve --fuse disk -f raw other
    equal "$output" "blkproof: cannot export at '$PWD/disk': another disk is exported there"
    : >b
    expect 1 blkproof serve --fuse x=b --fuse y=./b x=other y=null-co://
    contains "$output" "blkproof: cannot export at '$PWD/b': another disk is exported there"
    not_mounted b
    cmp disk image
    expect 0 stop s
}

@test "SIGTERM while it is in use: what was taken is finished; then the mount is gone and descriptors are dead" {
    fuse_serve s disk 'json:{"driver":"delay","write":"1500ms","file":{"driver":"file","filename":"image"}}'
    stuck w 0
    expect 0 stop s
    expect 0 reap w
    equal "$(sed -n 2p w.out)" "done"
    not_mounted disk
    equal "$(hex image 0 2)" 6161
}

@test "SIGTERM with writers stuck in a disk that hangs: they get an error, the mount is gone, the server too" {
    fuse_serve s disk --pid-file pid "$SLOW"
    stuck w1 0
    stuck w2 1
    kill -TERM "$(pid s)"
    expect 1 reap s
    equal "$(<s.err)" "blkproof: $PWD/disk: requests that hang in the device are given up: 2"
    for w in w1 w2; do
        expect 0 reap $w
        matches "$(sed -n 2p $w.out)" '^(ECONNABORTED|ENOTCONN)$'
    done
    not_mounted disk
    [ ! -e pid ]
}

@test "a second signal does not wait for them" {
    : >disk
    serve s --fuse disk "$SLOW"
    stuck w 0
    kill -TERM "$(pid s)"
    wait_until "the first one is obeyed" socket_gone
    kill -INT "$(pid s)"
    expect 130 reap s
    not_mounted disk
    expect 0 reap w
    matches "$(sed -n 2p w.out)" '^(ECONNABORTED|ENOTCONN)$'
}

@test "kill -9: stuck writers get an error; the dead mount is replaced by the next server, or removed by hand" {
    fuse_serve s disk "$SLOW"
    stuck w 0
    kill -KILL "$(pid s)"
    reap s || true
    expect 0 reap w
    matches "$(sed -n 2p w.out)" '^(ECONNABORTED|ENOTCONN)$'
    mounted disk
    expect 1 stat disk
    contains "$output" "Transport endpoint is not connected"
    [ "$(id -u)" = 0 ] || fusermount3 -u disk
    bg s blkproof serve --fuse disk -f raw image
    wait_for_line s.out serving
    cmp disk image
    kill -KILL "$(pid s)"
    reap s || true
    if type -P fusermount3 >/dev/null; then fusermount3 -u disk; else umount disk; fi
    not_mounted disk
    equal "$(stat -c %s disk)" 0
}

@test "a dead mount that is not ours is left alone" {
    need nbdfuse
    : >disk
    bg other nbdfuse disk "[" nbdkit --exit-with-parent memory 1M "]"
    wait_until "its mount" mounted disk
    kill -KILL "$(pid other)"
    reap other || true
    expect 1 blkproof serve --fuse disk -f raw image
    equal "$output" "blkproof: cannot export at '$PWD/disk': a FUSE file system whose server has died is mounted there (fusermount3 -u '$PWD/disk' removes it)"
    mounted disk
}

@test "unmounted by somebody: the server says so, and ends if there is no other way to its disks" {
    fuse_serve s disk -f raw image
    unmount disk
    expect 0 reap s
    equal "$(<s.err)" "blkproof: '$PWD/disk' has been unmounted"
    : >disk
    serve s --fuse disk -f raw image
    unmount disk
    wait_for_line s.err unmounted
    expect 0 nbdinfo --size "$(uri s)"
    equal "$out" 1048576
    expect 0 stop s
}

@test "a connection that the administrator aborts: the mount is gone, the server ends" {
    [ "$(id -u)" = 0 ] || skip "needs root"
    fuse_serve s disk "$SLOW"
    mkdir ctl
    mount -t fusectl none ctl
    stuck w 0
    echo 1 >"ctl/$(awk -v p="$PWD/disk" '$5 == p { split($3, d, ":"); print d[2] }' /proc/self/mountinfo)/abort"
    umount ctl
    expect 0 reap w
    matches "$(sed -n 2p w.out)" '^(ECONNABORTED|ENOTCONN)$'
    wait_for_line s.err unmounted
    expect 1 reap s
    contains "$(<s.err)" "requests that hang in the device are given up: 1"
    not_mounted disk
}
