# SPDX-License-Identifier: BSD-2-Clause
#
# No fault can wedge the server: every preset is applied and removed while fio is busy on one disk and an ext4 on
# another, both by way of the kernel. Afterwards the disks are whole, and SIGTERM ends the server although its disks
# are silent. PRESETS_LOAD_OPERATIONS is how many requests of each disk a preset sees that has no effect before; scripts/soak
# has many.
load ../lib/common
load ../lib/fuse

setup() {
    need_fuse
    need_loop
    need fio mkfs.ext4 e2fsck jq python3
    cd "$BATS_TEST_TMPDIR"
    operations=${PRESETS_LOAD_OPERATIONS:-30}
    export BLKPROOF_QMP="unix:$PWD/qmp"
    truncate -s 16M raw.image
    truncate -s 32M fs.image
    : >raw
    : >fs
    # Times of presets are seconds and minutes.
    bg server blkproof serve --qmp "$BLKPROOF_QMP" --time-scale 0.001 --fuse raw=raw --fuse fs=fs --write-cache=size=1M -f raw \
        "raw=fault::$(image raw.image)" "fs=fault::$(image fs.image)"
    wait_until "readiness" mounts_or_end
    mounted fs || fail "no server: $(cat server.err)"
    loop_on raw
    fio_disk=$loop
    loop_on fs
    fs_disk=$loop
    mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$fs_disk"
    mkdir m
    mount_fs
}
# The flushes of its clients are for the write cache; how fast the host's own disk is does not matter here.
image() { echo '{"driver":"file","filename":"'"$1"'","cache":{"no-flush":true}}' | sed 's/^/json:/'; }
mounts_or_end() { { mounted raw && mounted fs; } || ended "$(pid server)"; }
mount_fs() {
    mount "$fs_disk" m
    mkdir -p m/work
}

# fio in requests that may all fail, and a program that goes on with whatever files are there. Its folder is in
# the file system only, so that it never writes below the mount.
load_on() {
    bg fio fio --name=load --filename="$fio_disk" --rw=randrw --bsrange=512-64k --ioengine=libaio --iodepth=8 --direct=1 \
        --fsync=16 --rate=32m,32m --time_based --runtime=36000 --continue_on_error=all --output=fio.log
    bg busy python3 -c '
import os, time
i = 0
while True:
    i += 1
    name = "m/work/%d" % (i % 20)
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT)
        try:
            os.pwrite(fd, os.urandom(3000 * (i % 7 + 1)), 1000 * (i % 5))
            os.fsync(fd)
            os.pread(fd, 4096, 0)
        finally:
            os.close(fd)
        if i % 3 == 0:
            os.unlink(name)
    except OSError:
        time.sleep(0.01)  # it is being repaired
'
}

# about DISK: the requests it has had; how often its rules have fired; how many requests they hold.
about() {
    blkproof fault list --disk "$1" --json | jq -r '[.. | objects | select(has("next-operation"))][0] |
        "\(.["next-operation"]) \([.rules[].fired] | add // 0) \([.rules[].held] | add // 0)"'
}

# has_seen DISK N: a rule has fired, or so many requests have come.
has_seen() {
    local n fired held
    read -r n fired held < <(about "$1") && [ "$((n > $2 || fired + held > 0))" = 1 ]
}

count() { about "$1" | cut -d' ' -f1; }

# An ext4 that has met with errors may have stopped using its disk, so that we go on when the other has had many requests.
fs_has_seen() { has_seen fs "$1" || [ "$(count raw)" -gt "$2" ]; }

under_load() { # PRESET [PARAMETER]
    local param=(${2:+--param "$2"})
    blkproof fault add --disk fs --preset "$1" "${param[@]}" >/dev/null
    wait_until "an effect of $1 on ext4's disk" fs_has_seen $(($(count fs) + operations)) $(($(count raw) + 10 * operations))
    blkproof fault add --disk raw --preset "$1" "${param[@]}" >/dev/null
    wait_until "an effect of $1 on fio's disk" has_seen raw $(($(count raw) + operations))
    blkproof fault remove --disk fs --tag "$1" >/dev/null
    blkproof fault remove --disk raw --tag "$1" >/dev/null
    wait_until "requests behind $1" has_seen raw $(($(count raw) + 20))
    ! ended "$(pid fio)" || fail "fio ended: $(cat fio.log fio.err)"
}

# What lost or damaged writes, and power cuts, have done to a file system is to be repaired; nothing else.
heal() {
    if mkdir m/work/probe 2>/dev/null && sync -f m/work/probe && rmdir m/work/probe; then return; fi
    wait_until "unmounting" umount m
    wait_until "e2fsck" repaired || fail "e2fsck: $(cat e2fsck.log)"
    mount_fs
}
repaired() { # not while a mount namespace that another test made meanwhile still has our mount
    local status=0
    e2fsck -fy "$fs_disk" >e2fsck.log 2>&1 || status=$?
    [ "$status" -lt 4 ]
}

parameters() { # else nothing would happen in so short a time
    case $1 in
    power-*) echo nth=20 ;;
    reorder-epoch) echo flushes=2+ ;;
    silent-after-N) echo n=20 ;;
    vanish-reappear) echo after=1s ;;
    esac
}

disks_are_whole() {
    local job=(--name=whole --filename="$fio_disk" --size=16M --bsrange=512-64k --ioengine=libaio --iodepth=8 --direct=1)
    expect 0 fio "${job[@]}" --rw=randwrite --verify=crc32c --output=whole.log
    expect 0 fio "${job[@]}" --rw=read --output=read.log
    umount m
    wait_until "e2fsck" repaired || fail "e2fsck: $(cat e2fsck.log)"
    mount_fs
    pattern_file pattern 4000000
    cp pattern m/pattern
    umount m
    expect 0 e2fsck -fn "$fs_disk"
    mount_fs
    cmp pattern m/pattern
}

@test "every preset comes and goes under fio and ext4; then the disks are whole, and SIGTERM ends the server" {
    local preset n=0
    load_on
    for preset in $(blkproof fault presets | grep -oE '^[^ ]+'); do
        under_load "$preset" "$(parameters "$preset")"
        heal
        n=$((n + 1))
    done
    [ "$n" -ge 30 ]
    stop fio || true # it has had errors
    stop busy || true
    disks_are_whole

    load_on
    for disk in raw fs; do
        blkproof fault add --disk "$disk" --preset silent >/dev/null
        blkproof fault wait --disk "$disk" silent >/dev/null
    done
    WAIT_SECONDS=30 expect 0 stop server
    not_mounted raw
    not_mounted fs
}
