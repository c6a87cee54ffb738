# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Disks mounted as files (`serve --fuse`), and loop devices on them. Load after common.bash; its teardown undoes
# what tests have left, also when the server is dead: first who uses a loop device, then the loop devices, then
# the servers, then the mounts.

LOOPS=()

need_fuse() {
    [ -c /dev/fuse ] || skip "there is no /dev/fuse"
    [ "$(id -u)" = 0 ] || type -P fusermount3 >/dev/null || skip "neither root nor fusermount3"
    : >"$BATS_TEST_TMPDIR/fuse.probe"
    if [ "$(id -u)" = 0 ] && ! mount --bind "$BATS_TEST_TMPDIR/fuse.probe" "$BATS_TEST_TMPDIR/fuse.probe" 2>/dev/null; then
        skip "mounting is not allowed here"
    fi
    umount "$BATS_TEST_TMPDIR/fuse.probe" 2>/dev/null || true
}

need_loop() {
    need losetup
    [ "$(id -u)" = 0 ] || skip "loop devices need root"
    [ -e /dev/loop-control ] || skip "there is no /dev/loop-control"
}

# mounted FILE: something is mounted there, alive or not. Does not touch it.
mounted() {
    awk -v p="$(readlink -f "$(dirname "$1")")/$(basename "$1")" '$5 == p { found = 1 } END { exit !found }' /proc/self/mountinfo
}
# unmount FILE: as whoever we are.
unmount() {
    if [ "$(id -u)" = 0 ]; then umount "$1"; else fusermount3 -u "$1"; fi
}
not_mounted() { ! mounted "$1"; }

# fuse_serve NAME FILE ARG...: `blkproof serve --fuse FILE ARG...` in the background, mounted when this returns.
fuse_serve() {
    local name=$1 file=$2
    shift 2
    [ -e "$file" ] || : >"$file"
    bg "$name" blkproof serve --fuse "$file" "$@"
    wait_until "the mount on $file" mounted_or_ended "$file" "$(pid "$name")"
    mounted "$file" || { cat "$BATS_TEST_TMPDIR/$name.err" >&2; fail "$name did not mount $file"; }
}
mounted_or_ended() { mounted "$1" || ended "$2"; }

# loop_on FILE: a loop device past the page cache; its name is in $loop.
loop_on() {
    loop=$(losetup --direct-io=on --show -f "$1")
    LOOPS+=("$loop")
}

# loop_off LOOP: detached, and really gone (it is lazy while somebody looks at it). From then on the name may be
# another test's.
loop_off() {
    local l others=()
    losetup -d "$1"
    wait_until "the end of $1" loop_is_not_ours "$1"
    for l in "${LOOPS[@]}"; do
        [ "$l" = "$1" ] || others+=("$l")
    done
    LOOPS=("${others[@]}")
}
loop_is_not_ours() { ! losetup -n -O BACK-FILE "$1" 2>/dev/null | grep -qF "$BATS_TEST_TMPDIR/"; }

teardown() {
    local m l
    for m in $(awk -v t="$BATS_TEST_TMPDIR/" 'index($5, t) == 1 && $0 !~ / - fuse/ { print $5 }' /proc/self/mountinfo | tac); do
        umount "$m" 2>/dev/null || umount -l "$m" 2>/dev/null || true
    done
    for l in "${LOOPS[@]}"; do
        losetup -d "$l" 2>/dev/null || true
    done
    stop_all
    for m in $(awk -v t="$BATS_TEST_TMPDIR/" 'index($5, t) == 1 { print $5 }' /proc/self/mountinfo | tac); do
        umount -l "$m" 2>/dev/null || fusermount3 -uzq "$m" || true
    done
}
