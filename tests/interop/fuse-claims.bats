#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# What the 2014 patch claimed about kernels and programs on disks that fail: on this kernel, by way of a
# loop device, with rules that are changed while the disk is in use.
load ../lib/common
load ../lib/fuse

setup() {
    need_fuse
    need_loop
    need fio mkfs.ext4 jq
    cd "$BATS_TEST_TMPDIR"
    truncate -s 64M image
    : >disk
    export BLKPROOF_QMP="unix:$PWD/qmp"
    bg s blkproof serve --fuse disk --qmp "$BLKPROOF_QMP,server=on,wait=off" --id d fault::image
    wait_until "readiness" grep -q serving s.out
    loop_on disk
}

# told ID MEMBER: what the fault engine counts for a rule.
told() { blkproof fault list --json | jq -r "[.. | objects | select(.id? == \"$1\")][0].$2"; }

# sync_writes FILE N: so many writes that are durable when they are answered (o_sync), or after the fsync that
# follows (fsync); how they ended, counted. Ends with the first error: the file system then becomes read-only.
sync_writes() {
    python3 - "$1" "$2" <<'END'
import collections, errno, os, sys
name, n = sys.argv[1], int(sys.argv[2])
results = collections.Counter()
fd = os.open("m/" + name, os.O_WRONLY | (os.O_SYNC if name == "o_sync" else 0))
for i in range(n):
    try:
        os.pwrite(fd, b"o" * 4096, 4096 * i)
        if name == "fsync":
            os.fsync(fd)
        results["ok"] += 1
    except OSError as e:
        results[errno.errorcode[e.errno]] += 1
        break
print(dict(results))
END
}

filesystem() { # OPTIONS: mounted on m, with two files that are safe
    # Else a kernel thread zeroes inode tables after the mount, and flushes once whatever the mount options.
    mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$loop"
    mkdir -p m
    mount -o "$1" "$loop" m
    : >m/o_sync
    : >m/fsync
    sync -f m
}

@test "claim 1: ext4 without barriers believes O_SYNC writes and fsync, for ever, while every flush fails; with barriers it does not" {
    filesystem nobarrier
    blkproof fault add --id noflush --flush --error EIO >/dev/null
    equal "$(sync_writes o_sync 50) $(sync_writes fsync 50)" "{'ok': 50} {'ok': 50}"
    equal "$(told noflush matched)" 0 # it does not even ask
    blkproof fault remove noflush
    umount m

    for file in o_sync fsync; do
        filesystem barrier=1
        blkproof fault add --id noflush --flush --error EIO >/dev/null
        equal "$(sync_writes $file 50)" "{'EIO': 1}"
        [ "$(told noflush fired)" -ge 1 ]
        blkproof fault remove noflush
        umount m
    done

    # A flush fault can be taken away again: the same disk is a good one.
    filesystem barrier=1
    equal "$(sync_writes o_sync 50) $(sync_writes fsync 50)" "{'ok': 50} {'ok': 50}"
    umount m
    expect 0 e2fsck -fn "$loop"
    loop_off "$loop"
    expect 0 stop s
}

# Sixteen writes, four at once; the disk is silent from the ninth on.
silent_fio() {
    blkproof fault add --id silent --write --skip 8 --count 4 --hang >/dev/null
    bg fio fio --name=f --filename="$loop" --rw=write --bs=4k --size=64k --ioengine=libaio --iodepth=4 --direct=1 \
        --buffer_pattern=0x5a --output-format=json --output=fio.json
    expect 0 blkproof fault wait silent --count 4
    equal "$(told silent held)" 4
}

# It has not been told anything, while hundreds of other requests were answered.
still_silent() {
    fio --name=other --filename="$loop" --rw=randread --offset=16M --size=16M --bs=4k --number_ios=300 --direct=1 \
        --output=other.txt
    ! ended "$(pid fio)"
    [ ! -s fio.json ]
    equal "$(cat fio.out fio.err)" ""
}

fio_told() { jq -c '.jobs[0] | [.error, .write.total_ios]' <(sed -n '/^{/,$p' fio.json); }

@test "claim 2: a silent disk; released, the requests complete" {
    silent_fio
    still_silent
    blkproof fault release silent --complete
    expect 0 reap fio
    equal "$(fio_told)" "[0,16]"
    loop_off "$loop"
    expect 0 stop s
    equal "$(hex image 0 2)$(hex image 65534 3)" "5a5a5a5a00"
}

@test "claim 2: a silent disk; released, the requests fail" {
    silent_fio
    still_silent
    blkproof fault release silent --error=EIO
    expect 1 reap fio
    equal "$(fio_told | jq '.[0]')" 5
    equal "$(told silent held)" 0
    loop_off "$loop"
    expect 0 stop s
    equal "$(hex image 0 2)$(hex image $((8 * 4096)) 2)" "5a5a0000"
}

@test "claim 2: a silent disk; released as dropped, they are answered by nobody, until the server ends" {
    silent_fio
    still_silent
    blkproof fault release silent --drop
    equal "$(told silent held)" 0
    still_silent
    expect 0 stop s
    expect 1 reap fio
    equal "$(fio_told | jq '.[0]')" 5
    not_mounted disk
}

@test "claim 2: SIGTERM with requests held: they complete, the mount is gone" {
    silent_fio
    still_silent
    expect 0 stop s
    reap fio || true # twelve of its sixteen writes were answered; what came after the end was not
    not_mounted disk
    equal "$(hex image $((11 * 4096)) 2)" "5a5a"
}

@test "claim 3: a slow disk: every request is late, none fails" {
    job() { # N: iops, requests, error, milliseconds
        fio --name=f --filename="$loop" --rw=randread --bs=4k --size=32M --number_ios="$1" --direct=1 --ioengine=psync \
            --output-format=json | sed -n '/^{/,$p' | jq -r '.jobs[0] | "\(.read.iops) \(.read.total_ios) \(.error) \(.read.runtime)"'
    }
    read -r fast n error _ < <(job 400)
    equal "$n $error" "400 0"
    late_ms=$(jq -n "100000 / $fast | ceil") # a hundred times what one takes
    blkproof fault add --id slow --read --action delay --delay "${late_ms}ms" >/dev/null
    read -r slow n error ms < <(job 40)
    equal "$n $error" "40 0"
    equal "$(told slow fired)" 40
    [ "$ms" -ge $((40 * late_ms)) ] # the one bound that no load on the machine can break
    echo "# claim 3: $fast reads per second; with ${late_ms} ms of delay each $slow: 1/$(jq -n "$fast / $slow | round")" >&3
    blkproof fault remove slow
    read -r _ n error _ < <(job 400)
    equal "$n $error" "400 0"
    loop_off "$loop"
    expect 0 stop s
}
