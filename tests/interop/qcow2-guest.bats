# SPDX-License-Identifier: BSD-2-Clause
# blkverify:raw.img:test.qcow2, both drivers our own, under a real guest, as blkverify's manual proposes:
# it partitions the disk, makes an ext4, unpacks a tree, and is switched off; a new server, a
# second boot: fsck, the tree is compared, changed and trimmed. Nothing may differ, and QEMU has the last
# word: no errors, no leaks, and before anything was trimmed the same contents (what is trimmed shows what it likes).
load ../lib/common
load ../lib/guest

SIZE=160M

proof() {
    serve proof --discard=unmap blkverify:raw.img:test.qcow2
}

guest() { # NAME SCRIPT
    guest_run "$1" "$2" -blockdev "driver=nbd,node-name=d,discard=unmap,server.type=unix,server.path=$(sock proof)" \
        -device virtio-blk-pci,drive=d
}

proof_clean() { # the server had nothing to say, the image is whole
    local status=0
    stop proof || status=$?
    equal "$status $(cat proof.err)" "0 " "exit status and messages of blkproof"
    expect 0 qemu-img check -f qcow2 test.qcow2
    # shellcheck disable=SC2154 # set by expect
    contains "$out" "No errors were found on the image."
}

# make_tree: what the guest unpacks, as guest-files/tree.tar, and what it must find, as guest-files/sums.
make_tree() {
    mkdir -p guest-files tree
    cp -r "$TOP/src" "$TOP/docs" "$TOP/scripts" tree/
    pattern_file tree/pattern 6291456 7
    tar -C tree -cf guest-files/tree.tar .
    (cd tree && find . -type f -exec sha256sum {} +) >guest-files/sums
}

@test "a guest partitions, fills, reboots, checks and compares the verified qcow2" {
    guest_needs
    need qemu-img
    cd "$BATS_TEST_TMPDIR"
    make_tree
    truncate -s "$SIZE" raw.img
    expect 0 blkproof img create -f qcow2 test.qcow2 "$SIZE"

    cat >first-boot <<'EOS'
set -e
printf 'n\np\n1\n2048\n\nw\n' | fdisk /dev/vda
mdev -s
mkfs.ext4 -q /dev/vda1
mount -t ext4 /dev/vda1 /mnt
tar -C /mnt -xf /files/tree.tar
rm -r /mnt/docs
tar -C /mnt -xf /files/tree.tar
umount /mnt
EOS
    proof
    guest first first-boot
    proof_clean
    expect 0 qemu-img compare -f raw -F qcow2 raw.img test.qcow2

    cat >second-boot <<'EOS'
set -e
e2fsck -fn /dev/vda1
mount -t ext4 /dev/vda1 /mnt
cd /mnt
sha256sum -c /files/sums | grep -v ': OK$' && exit 1
rm -r src
fstrim /mnt
tar -C /mnt -xf /files/tree.tar ./src
cd /
umount /mnt
mount -t ext4 -o ro /dev/vda1 /mnt
cd /mnt
sha256sum -c /files/sums | grep -v ': OK$' && exit 1
wc -l </files/sums
EOS
    proof
    guest second second-boot
    equal "$(tail -n 1 second.guest)" "$(wc -l <guest-files/sums)" "files compared in the guest"
    proof_clean
}

@test "a bit that changed in the qcow2 file is caught when the guest reads its sector" {
    guest_needs
    cd "$BATS_TEST_TMPDIR"
    truncate -s 8M raw.img
    expect 0 blkproof img create -f qcow2 test.qcow2 8M
    expect 0 blkproof io -c 'write -P 0x5a 1M 4k' blkverify:raw.img:test.qcow2
    at=$(find_bytes test.qcow2 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a)
    flip_bit test.qcow2 $((at + 512)) 0
    serve proof blkverify:raw.img:test.qcow2
    echo 'dd if=/dev/vda of=/dev/null bs=4k skip=256 count=1' >script
    GUEST_SECONDS=120 guest read script 2>guest.log || true # it sees a read error, or its disk gone
    status=0
    reap proof || status=$?
    equal "$status" 1 "exit status of blkproof"
    contains "$(head -n 1 proof.err)" "contents mismatch in sector 2049"
}
