#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# serve --fuse and a loop device: the host's own kernel on our disk.
load ../lib/common
load ../lib/fuse

setup() {
    need_fuse
    need_loop
    cd "$BATS_TEST_TMPDIR"
}

# logged ERE: how many lines of nbdkit's log match.
logged() { grep -cE "$1" log || true; }

@test "ext4 on a loop device on qcow2, every byte verified: mkfs, mount, fio, umount, fsck" {
    need fio mkfs.ext4 qemu-nbd
    truncate -s 128M reference
    blkproof img create -q -f qcow2 test.qcow2 128M
    qemu_nbd t -f qcow2 --discard=unmap test.qcow2
    fuse_serve s disk "blkverify:reference:$(uri t)"
    loop_on disk
    equal "$(losetup -n -O DIO,RO "$loop" | tr -s ' ')" " 1 0"
    mkfs.ext4 -q "$loop"
    mkdir m
    mount "$loop" m
    expect 0 fio --name=f --directory=m --rw=randrw --bssplit=4k/60:64k/40 --size=16M --numjobs=2 --iodepth=8 \
        --ioengine=libaio --direct=1 --fsync=50 --verify=crc32c --randseed=7 --group_reporting
    cp -r /usr/share/doc/e2fsprogs m/
    fstrim m
    umount m
    expect 0 e2fsck -fn "$loop"
    mount "$loop" m
    diff -r /usr/share/doc/e2fsprogs m/e2fsprogs
    umount m
    loop_off "$loop"
    expect 0 stop s
    equal "$(<s.err)" ""
    expect 0 stop t
    expect 0 qemu-img compare -f raw -F qcow2 reference test.qcow2
    expect 0 e2fsck -fn reference
}

@test "what loop devices ask for reaches the disk: discard, zeroes, flush; a write with FUA is a write and a flush" {
    need nbdkit
    nbdkit_serve dev --filter=log memory 64M logfile=log
    fuse_serve s disk "$(uri dev)"
    loop_on disk
    flushes=$(logged 'Flush id')
    blkdiscard -o 1M -l 2M "$loop"
    equal "$(logged 'Trim id=.* offset=0x100000 count=0x100000 ')" 1 # a unit, to learn whether zeroes are fast
    equal "$(logged 'Trim id=.* offset=0x200000 count=0x100000 ')" 1
    blkdiscard -z -o 8M -l 1M "$loop"
    [ "$(logged 'Zero id=.* offset=0x800000 ')" -ge 1 ]
    equal "$(logged 'Flush id')" "$flushes"
    dd if=/dev/zero of="$loop" bs=4096 count=1 seek=8192 oflag=direct,dsync status=none
    [ "$(logged 'Flush id')" -gt "$flushes" ]
    equal "$(logged 'fua=1')" 0
    loop_off "$loop"
    expect 0 stop s
}

@test "zeroes by a loop device are zeroes, even where the disk ignores discards" {
    pattern_file image 16777216
    fuse_serve s disk --discard=ignore -f raw image
    loop_on disk
    fallocate -p -o 1M -l 4M "$loop" # zeroes that may be unmapped: the same request as a discard
    blkdiscard -z -o 8M -l 1M "$loop"
    loop_off "$loop"
    expect 0 stop s
    cmp -n 4194304 -i 1048576:0 image /dev/zero
    cmp -n 1048576 -i 8388608:0 image /dev/zero
    pattern_file before 16777216
    cmp -n 1048576 image before
    cmp -i 9437184 image before
}

@test "QEMU's tools use the file as any other" {
    need qemu-img qemu-io
    pattern_file image 8388608
    cp image before
    fuse_serve s disk -f raw image
    expect 0 qemu-img info -f raw disk
    contains "$out" "virtual size: 8 MiB"
    expect 0 qemu-img compare -f raw -F raw disk before
    expect 0 qemu-io -f raw -t none -c 'write -P 0x5a 1M 64k' -c 'write -f -P 0x5b 2M 4k' -c 'flush' -c 'write -z 3M 64k' \
        -c 'discard 4M 64k' -c 'read -P 0x5a 1M 64k' -c 'read -P 0 3M 64k' disk
    lacks "$out" "error"
    lacks "$out" "failed"
    expect 0 qemu-img create -q -f qcow2 new.qcow2 8M
    expect 0 qemu-io -c 'write -P 0x77 0 128k' new.qcow2
    expect 0 qemu-img convert -n -f qcow2 -O raw new.qcow2 disk
    expect 0 qemu-img compare -f raw -F qcow2 disk new.qcow2
    expect 0 stop s
    expect 0 qemu-img compare -f raw -F qcow2 image new.qcow2
}

@test "SIGTERM under a mounted file system: nobody is stuck, the mounts go" {
    need mkfs.ext4
    truncate -s 64M image
    fuse_serve s disk -f raw image
    loop_on disk
    mkfs.ext4 -q "$loop"
    mkdir m
    mount "$loop" m
    bg writer sh -c 'while dd if=/dev/zero of=m/file bs=64k count=64 conv=fsync 2>/dev/null; do echo round; done'
    wait_for_line writer.out round
    expect 0 stop s
    expect 0 reap writer
    not_mounted disk
    umount m
    loop_off "$loop"
}

@test "images, reports and pid files on a disk of ours are refused, however indirectly" {
    need mkfs.ext4 nbdsh
    truncate -s 64M image
    truncate -s 1M small
    : >disk
    serve s --fuse disk --qmp "unix:$PWD/qmp,server=on,wait=off" -f raw image
    loop_on disk
    outer=$loop
    mkfs.ext4 -q "$outer"
    mkdir m m2
    mount "$outer" m
    truncate -s 16M m/inner
    loop_on "$PWD/m/inner"
    mkfs.ext4 -q "$loop"
    mount "$loop" m2
    truncate -s 1M m2/image
    # The pid file is written after the mount: on the mount point itself.
    : >here
    expect 1 blkproof serve --fuse here --pid-file here -f raw small
    contains "$output" "'here' lies on the disk that this server itself exports at '$PWD/here'"
    not_mounted here
    # Images that are added later.
    add() {
        python3 - "$PWD/qmp" "$1" <<'END'
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile("rw")
f.readline()
for c in ({"execute": "qmp_capabilities"},
          {"execute": "blockdev-add", "arguments": {"driver": "file", "node-name": "n", "filename": sys.argv[2]}}):
    f.write(json.dumps(c)); f.flush(); reply = f.readline()
print(json.loads(reply).get("error", {}).get("desc", "added"))
END
    }
    ln -s disk link
    for f in disk "$outer" m/inner "$loop" m2/image link; do
        expect 0 add "$f"
        equal "$out" "'$f' lies on the disk that this server itself exports at '$PWD/disk': it would wait for itself for ever"
    done
    expect 0 add small
    equal "$out" added
    # Another server may use them.
    for f in disk "$outer" m/inner "$loop" m2/image; do
        expect 0 blkproof img info -U -f raw "$f"
    done
    umount m2
    loop_off "$loop"
    umount m
    loop_off "$outer"
    expect 0 stop s
}
