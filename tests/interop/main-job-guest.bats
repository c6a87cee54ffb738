# SPDX-License-Identifier: BSD-2-Clause
# The main job stays clean under a real guest: it makes an ext4, unpacks a tree, unmounts it, checks it
# and compares it; then one bit of the qcow2 file flips behind QEMU's back and the next read is caught.
load ../lib/common
load ../lib/guest
load ../lib/main_job

guest() { # NAME SCRIPT: with the disk of the main job
    guest_run "$1" "$2" -blockdev "driver=nbd,node-name=d,discard=unmap,server.type=unix,server.path=$(sock proof)" \
        -device virtio-blk-pci,drive=d
}

@test "a guest makes, fills, checks and compares an ext4; then a flipped bit is caught" {
    guest_needs
    need nbdcopy
    main_job_start 192M --discard=unmap --detect-zeroes=unmap
    mkdir -p guest-files tree
    cp -r "$TOP/src" "$TOP/tests" "$TOP/scripts" tree/
    pattern_file tree/pattern 8388608 99
    tar -C tree -cf guest-files/tree.tar .
    (cd tree && find . -type f -exec sha256sum {} +) >guest-files/sums

    cat >script <<'EOS'
set -e
mkfs.ext4 -q /dev/vda
mount -t ext4 /dev/vda /mnt
tar -C /mnt -xf /files/tree.tar
rm -r /mnt/tests
fstrim /mnt
tar -C /mnt -xf /files/tree.tar
umount /mnt
echo 3 >/proc/sys/vm/drop_caches
e2fsck -fn /dev/vda
mount -t ext4 -o ro /dev/vda /mnt
cd /mnt
sha256sum -c /files/sums | grep -v ': OK$' && exit 1
wc -l </files/sums
EOS
    guest_run_status=0
    guest first script || guest_run_status=$?
    equal "$guest_run_status" 0 "the guest's exit status"
    equal "$(tail -n 1 first.guest)" "$(wc -l <guest-files/sums)" "files compared in the guest"
    equal "$(cat proof.err)" "" "messages of blkproof"

    # Block 5 of the pattern file, byte 100, bit 3, wherever qcow2 and ext4 put it.
    at=$(find_bytes disk.qcow2 00000000000000630000000000000005)
    flip_bit disk.qcow2 $((at + 100)) 3
    expect 1 nbdcopy "$(uri proof)" null:
    status=0
    reap proof || status=$?
    equal "$status" 1 "exit status of blkproof"
    matches "$(head -n 1 proof.err)" '^blkverify: read sector_num=[0-9]+ nb_sectors=[0-9]+ contents mismatch in sector [0-9]+$'
    contains "$(cat proof.err)" "one bit flipped"
    # The sector it names holds the block in the reference.
    sector=$(sed -nE '1s/.* in sector ([0-9]+)$/\1/p' proof.err)
    equal "$(hex reference.raw $((sector * 512)) 16)" 00000000000000630000000000000005 "the sector named in the report"
}
