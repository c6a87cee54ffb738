# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# A small Linux guest for the tests: the distribution's kernel, an initramfs of busybox and
# e2fsprogs, QEMU without KVM (TCG: runs anywhere, needs no rights). Use, after ../lib/common:
#
#     guest_needs                         skip the test if the guest cannot be made here
#     guest_run NAME SCRIPT_FILE ARG...   boot, run the shell script as root, power off
#
# ARG are QEMU's: the disks, say
#     -blockdev driver=nbd,node-name=d,server.type=unix,server.path=$(sock s) -device virtio-blk-pci,drive=d
# The script finds the first disk as /dev/vda and files put into $BATS_TEST_TMPDIR/guest-files/ as /files.
# The exit status of guest_run is the script's; its output is in NAME.guest in $BATS_TEST_TMPDIR, the whole console in
# NAME.console. A guest that is not done after GUEST_SECONDS is killed (status 124).

GUEST_SECONDS=${GUEST_SECONDS:-400}
. "$(dirname "${BASH_SOURCE[0]}")/kernel.bash"

guest_needs() {
    need qemu-system-x86_64 busybox cpio gzip
    PATH=$PATH:/sbin:/usr/sbin need modprobe mkfs.ext4 e2fsck
    kernel_find || skip "no kernel to boot in /boot or $KERNEL_CACHE (scripts/install-deps all)"
}

# guest_initramfs FILE: everything but the script and /files, which travel in an archive of their own.
guest_initramfs() {
    local dir=$BATS_TEST_TMPDIR/initramfs version=${KERNEL_MODULES##*/} base=${KERNEL_MODULES%/*/*/*} program lib module
    mkdir -p "$dir"/{bin,sbin,proc,sys,dev,tmp,mnt,modules,etc}
    cp "$(command -v busybox)" "$dir/bin/busybox"
    : >"$dir/etc/mtab"
    for program in mkfs.ext4 e2fsck; do
        program=$(PATH=$PATH:/sbin:/usr/sbin command -v "$program")
        cp "$program" "$dir/sbin/"
        for lib in $(ldd "$program" | grep -oE '/[^ ]+'); do
            mkdir -p "$dir${lib%/*}"
            cp -L "$lib" "$dir$lib"
        done
    done
    # In the order in which they must be loaded; built-in ones have no file.
    for module in virtio_pci virtio_blk crc32c_generic ext4; do
        PATH=$PATH:/sbin:/usr/sbin modprobe -d "${base:-/}" -S "$version" --show-depends "$module" 2>/dev/null
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$BATS_TEST_TMPDIR/modules"
    local n=100
    while read -r module; do
        guest_module "$module" "$dir/modules/$n-$(basename "$module" | sed 's/\.ko.*/.ko/')"
        n=$((n + 1))
    done <"$BATS_TEST_TMPDIR/modules"
    cat >"$dir/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for m in /modules/*.ko; do insmod "$m" || echo "init: cannot load $m"; done
echo GUEST-BEGIN
sh /script
echo "GUEST-END $?"
poweroff -f
INIT
    chmod +x "$dir/init"
    (cd "$dir" && find . | cpio -o -H newc -R 0:0 --quiet) | gzip -1 >"$1"
}

guest_module() { # FROM TO: newer distributions compress them
    case $1 in
    *.zst) zstd -qdc "$1" >"$2" ;;
    *.xz) xz -dc "$1" >"$2" ;;
    *) cp "$1" "$2" ;;
    esac
}

guest_run() {
    local name=$1 script=$2 dir=$BATS_TEST_TMPDIR status=0
    shift 2
    [ -e "$dir/initramfs.gz" ] || guest_initramfs "$dir/initramfs.gz"
    rm -rf "$dir/payload"
    mkdir -p "$dir/payload/files"
    cp "$script" "$dir/payload/script"
    [ ! -d "$dir/guest-files" ] || cp -a "$dir/guest-files/." "$dir/payload/files/"
    # The kernel takes any number of archives, one after the other.
    (cd "$dir/payload" && find . | cpio -o -H newc -R 0:0 --quiet) | gzip -1 | cat "$dir/initramfs.gz" - >"$dir/payload.gz"
    timeout -k 5 "$GUEST_SECONDS" qemu-system-x86_64 -accel tcg -m 512 -smp 1 -nodefaults -no-user-config -no-reboot \
        -display none -kernel "$KERNEL_IMAGE" -initrd "$dir/payload.gz" \
        -append 'console=ttyS0 quiet panic=-1 random.trust_cpu=on' -serial "file:$dir/$name.console" "$@" \
        >"$dir/$name.qemu" 2>&1 </dev/null 3>&- || status=$?
    tr -d '\r' <"$dir/$name.console" | sed '0,/GUEST-BEGIN/d; /^GUEST-END/,$d' >"$dir/$name.guest"
    if [ "$status" != 0 ]; then
        echo "qemu ended with status $status:" >&2
        cat "$dir/$name.qemu" >&2
        tail -n 30 "$dir/$name.console" >&2
        return "$status"
    fi
    status=$(tr -d '\r' <"$dir/$name.console" | sed -n 's/^GUEST-END //p')
    [ -n "$status" ] || { echo "the guest never finished:" >&2; tail -n 30 "$dir/$name.console" >&2; return 1; }
    [ "$status" = 0 ] || tail -n 30 "$dir/$name.guest" >&2
    return "$status"
}
