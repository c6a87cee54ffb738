# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# A Linux kernel with its modules for the guest of the tests: the machine's own if it may be read,
# else one unpacked from the distribution's package into a cache. Used by scripts/install-deps and
# guest.bash. kernel_find sets KERNEL_IMAGE and KERNEL_MODULES (the directory with modules.dep).

KERNEL_CACHE=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/blkproof/kernel

# shellcheck disable=SC2034 # for whoever sources this
kernel_find() {
    local image version root
    for root in "" "$KERNEL_CACHE"; do
        for image in "$root"/boot/vmlinuz-*; do
            [ -r "$image" ] || continue
            version=${image##*/vmlinuz-}
            for KERNEL_MODULES in "$root/lib/modules/$version" "$root/usr/lib/modules/$version"; do
                if [ -r "$KERNEL_MODULES/modules.dep" ]; then
                    KERNEL_IMAGE=$image
                    return 0
                fi
            done
        done
    done
    return 1
}

# The package that holds the newest kernel: linux-image-amd64 (Debian) and linux-image-virtual (Ubuntu)
# only depend on it. No root needed, nothing is installed.
kernel_fetch() (
    set -e
    deps=$(apt-cache depends --important linux-image-virtual linux-image-amd64 2>/dev/null || true)
    # Debian's cloud flavour is a fifth of the size and has the virtio drivers.
    image=$(apt-cache depends --important linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    [ -n "$image" ] || image=$(sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' <<<"$deps" | head -n 1)
    [ -n "$image" ] || { echo "no kernel package in the package lists" >&2; exit 1; }
    rm -rf "$KERNEL_CACHE.new"
    mkdir -p "$KERNEL_CACHE.new/debs"
    cd "$KERNEL_CACHE.new/debs"
    apt-get -q download "$image"
    case $image in # Ubuntu keeps the modules in a package of their own
    *-generic) apt-get -q download "${image/linux-image-/linux-modules-}" ;;
    esac
    for deb in *.deb; do dpkg-deb -x "$deb" ..; done
    cd ..
    rm -rf debs
    version=$(basename boot/vmlinuz-*)
    version=${version#vmlinuz-}
    [ -e "lib/modules/$version" ] || [ ! -e "usr/lib/modules/$version" ] || ln -s usr/lib lib
    PATH=$PATH:/sbin:/usr/sbin depmod -b . "$version"
    cd ..
    rm -rf "$KERNEL_CACHE"
    mv "$KERNEL_CACHE.new" "$KERNEL_CACHE"
)
