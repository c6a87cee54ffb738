# SPDX-License-Identifier: BSD-2-Clause
# The main job stays clean under fio: random mixed sizes, 32 deep, trims, write-zeroes, flushes.
load ../lib/common
load ../lib/main_job

setup() {
    need fio nbdsh
}

# hammer OFFSET SIZE ARG...
hammer() {
    local offset=$1 size=$2
    shift 2
    fio --name=hammer --ioengine=nbd --uri="$(uri proof)" --offset="$offset" --size="$size" --iodepth=32 \
        --randseed=7 --fsync=64 "$@"
}

# fio has no write-zeroes for NBD; libnbd's shell has.
zeroes() {
    nbdsh -u "$(uri proof)" -c - <<'PY'
import random
r = random.Random(7)
base, size = 192 << 20, 32 << 20
model = bytearray(size)
for i in range(600):
    length = 512 * r.randrange(1, 300)
    offset = 512 * r.randrange(0, (size - length) // 512)
    what = r.randrange(6)
    if what == 0:
        h.zero(length, base + offset)
        model[offset:offset + length] = bytes(length)
    elif what == 1:
        h.zero(length, base + offset, nbd.CMD_FLAG_NO_HOLE)
        model[offset:offset + length] = bytes(length)
    elif what == 2:
        h.flush()
    elif what == 3:
        assert h.pread(length, base + offset) == model[offset:offset + length], offset
    else:
        data = r.randbytes(length)
        h.pwrite(data, base + offset, nbd.CMD_FLAG_FUA if what == 5 else 0)
        model[offset:offset + length] = data
assert h.pread(size, base) == model
PY
}

@test "random reads and writes of mixed sizes, verified by fio, beside write-zeroes" {
    main_job_start 256M --discard=unmap --detect-zeroes=unmap
    bg zeroes zeroes
    expect 0 hammer 0 96M --rw=randrw --bsrange=512-64k --verify=crc32c
    contains "$out" "err= 0"
    expect 0 reap zeroes
    main_job_clean
}

@test "trims before random writes, verified by fio" {
    main_job_start 256M --discard=unmap
    expect 0 hammer 0 64M --rw=randtrimwrite --bs=16k --verify=crc32c
    contains "$out" "err= 0"
    main_job_clean
}

@test "trims that the device ignores are no false alarm" {
    main_job_start 64M --discard=ignore
    expect 0 hammer 0 32M --rw=randwrite --bs=64k
    expect 0 hammer 0 32M --rw=randtrim --bs=64k
    expect 0 nbdcopy "$(uri proof)" null:
    expect 0 stop proof
    equal "$(cat proof.err)" ""
}
