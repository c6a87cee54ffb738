#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Valid images of the fuzzer are valid for the programs that these formats belong to. What QEMU 7.2 cannot read
# though it is right is left out by a choice, and said. Sizes are small enough to be read in a moment.

load ../lib/fuzz_valid

setup() { need qemu-img jq; }

@test "QED" {
    valid qed size_bits=12
    each_image by_qemu qed
}

@test "QCOW1" {
    valid qcow size_bits=12 aes=0
    each_image by_qemu qcow
}

@test "VDI" { # no parents: nothing in the file says where they are
    valid vdi size_bits=14 difference=0
    each_image by_qemu vdi
    valid vdi static=1
    each_image by_qemu vdi
}

@test "VHD" { # differencing images are taken for dynamic ones
    valid vpc size_bits=12 type=0
    each_image by_qemu vpc
    valid vpc type=6
    each_image by_qemu vpc
}

@test "Parallels" { # an image that was not closed, and flags of features, are refused or reported
    valid parallels size_bits=12 open=0 feature_flags=0
    each_image by_qemu parallels
    valid parallels size_bits=12 open=0 feature_flags=0 extension=1 clusters=20
    each_image by_qemu parallels
}

@test "VMDK: sparse files, some over a parent" {
    valid vmdk size_bits=8 type=0 parent1:size_bits=8
    each_image by_qemu vmdk
}

@test "VMDK: streams of compressed grains" {
    valid vmdk size_bits=8 type=5
    each_image by_qemu vmdk
}

@test "VMDK: descriptors of flat, sparse and COWD extents" {
    local type
    for type in 0 2 3 4; do
        valid vmdk type=9 create_type=$type extent{1,2,3,4}:size_bits=8
        each_image by_qemu vmdk
    done
}

@test "VHDX" { # neither parents nor sectors of 4 KiB
    valid vhdx size_bits=9 type=0 sectors_4k=0 log=0
    each_image by_qemu vhdx
    valid vhdx type=6 sectors_4k=0 log=0
    each_image by_qemu vhdx
}

@test "Bochs, cloop, DMG" {
    valid bochs size_bits=12
    each_image by_qemu bochs
    valid cloop
    each_image by_qemu cloop
    valid dmg
    each_image by_qemu dmg
}

replay() { # IMAGE GUEST
    limited qemu-img check -r all -f vhdx "$1" >/dev/null || { echo "replay failed"; return 1; }
    by_qemu vhdx "$@"
}

@test "VHDX: the log is replayed" {
    valid vhdx size_bits=9 type=0 sectors_4k=0 log=1 blocks=4
    each_image replay
}

open_luks() { # IMAGE GUEST
    identical --object secret,id=key,data=blkproof --image-opts "driver=luks,key-secret=key,file.filename=$1" \
        "driver=raw,file.filename=$2"
}
info_luks() { limited qemu-img info -f luks "$1" >/dev/null; }

@test "LUKS1: those that open, open" {
    valid luks version=1 opens=1
    each_image open_luks
    valid luks version=1 opens=0
    each_image info_luks
}

unlock_luks2() {
    limited cryptsetup luksDump "$1" >/dev/null || { echo "luksDump failed"; return 1; }
    printf blkproof | limited cryptsetup open --test-passphrase --key-file=- "$1" || return 1
    ! printf wrong | limited cryptsetup open --test-passphrase --key-file=- "$1" >/dev/null
}

@test "LUKS2: cryptsetup reads the header, and opens with the passphrase and no other" {
    need cryptsetup
    valid luks version=2 opens=1
    each_image unlock_luks2
}

gpt_verify() {
    limited sgdisk -v "$1" | grep -q "No problems found" || { limited sgdisk -v "$1"; return 1; }
    cmp "$1" "$2"
}
mbr_verify() { limited sfdisk --verify "$1" >/dev/null; }

@test "GPT and MBR" {
    need sgdisk sfdisk
    valid gpt type=0 other_entries=0
    each_image gpt_verify
    each_image mbr_verify
    valid gpt type=9
    each_image mbr_verify
}

cow_read() {
    blkproof img compare --image-opts "driver=cow,check-backing=off,file.filename=$1" "driver=raw,file.filename=$2"
}

@test "COW, all versions, by our own driver" {
    local layout
    for layout in 0 1 2 3 4; do
        valid cow layout=$layout
        each_image cow_read
    done
}

@test "7-Zip reads VHD (parents, too), VHDX, VMDK and VDI as the builder says" {
    need 7z
    valid vpc size_bits=10
    each_image by_7zip vhd
    valid vmdk size_bits=8 parent=0 type=0
    each_image by_7zip vmdk
    valid vmdk size_bits=8 type=5
    each_image by_7zip vmdk
    valid vdi size_bits=10
    each_image by_7zip vdi
}

info() { limited "$1" "$2" >/dev/null || { echo "$1 failed"; return 1; }; }

@test "vmdkinfo and vhdiinfo know them" {
    need vmdkinfo vhdiinfo
    valid vpc
    each_image info vhdiinfo
    valid vhdx sectors_4k=0
    each_image info vhdiinfo
    valid vmdk type=5
    each_image info vmdkinfo
}
