# SPDX-License-Identifier: BSD-2-Clause
# Everybody else's NBD clients against our server.
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
}

# A sparse disk: data in [1 MiB, 2 MiB) and [5 MiB, 5 MiB + 64 KiB), holes elsewhere.
sparse_disk() {
    pattern_file data.img 1048576 7
    truncate -s 8M disk.img
    dd if=data.img of=disk.img bs=64k seek=16 conv=notrunc status=none
    dd if=data.img of=disk.img bs=64k seek=80 count=1 conv=notrunc status=none
}

@test "nbdinfo sees what the specification says a server offers" {
    need nbdinfo
    sparse_disk
    serve s -f raw disk.img
    expect 0 nbdinfo --json "$(uri s)"
    equal "$(jq -c '[.protocol, .structured, .TLS, (.exports[0] | .["export-size"], .contexts,
        .is_read_only, .can_cache, .can_df, .can_fast_zero, .can_flush, .can_fua, .can_multi_conn, .can_trim, .can_zero,
        .block_size_minimum, .block_size_preferred, .block_size_maximum)]' <<<"$out")" \
        '["newstyle-fixed",true,false,8388608,["base:allocation"],false,true,true,true,true,true,true,true,true,1,4096,33554432]'
}

@test "nbdinfo --map and qemu-img map agree about the holes" {
    need nbdinfo qemu-img
    sparse_disk
    serve s -f raw disk.img
    expect 0 nbdinfo --map "$(uri s)"
    equal "$(awk '{ print $1, $2, $3 }' <<<"$out")" "0 1048576 3
1048576 1048576 0
2097152 3145728 3
5242880 65536 0
5308416 3080192 3"
    expect 0 qemu-img map -f raw --output=json "$(uri s)"
    equal "$(jq -c '.[] | [.start, .length, .zero, .data]' <<<"$out")" "[0,1048576,true,false]
[1048576,1048576,false,true]
[2097152,3145728,true,false]
[5242880,65536,false,true]
[5308416,3080192,true,false]"
}

@test "nbdcopy in, out, and from server to server" {
    need nbdcopy
    sparse_disk
    truncate -s 8M empty.img
    serve s -f raw disk.img
    serve d -f raw empty.img
    expect 0 nbdcopy "$(uri s)" out.img
    cmp out.img disk.img
    expect 0 nbdcopy --connections=4 --request-size=65536 --requests=64 "$(uri s)" "$(uri d)"
    cmp empty.img disk.img
    pattern_file in.img 8388608 9
    expect 0 nbdcopy --flush in.img "$(uri d)"
    cmp empty.img in.img
    expect 0 nbdcopy --synchronous "$(uri s)" "$(uri d)"
    cmp empty.img disk.img
}

@test "nbdcopy -p from stdin and to stdout" {
    need nbdcopy
    pattern_file in.img 3000000 3 # not a multiple of anything
    truncate -s 3000000 disk.img
    serve s -f raw disk.img
    nbdcopy - "$(uri s)" <in.img
    cmp in.img disk.img
    nbdcopy "$(uri s)" - | cmp - in.img
}

@test "nbdsh: every command with every flag, structured and simple" {
    need nbdsh
    sparse_disk
    cp disk.img before.img
    serve s -f raw disk.img
    for structured in True False; do
        cp before.img disk.img
        nbdsh -c - <<PY
h.set_request_structured_replies($structured)
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri("$(uri s)")
assert h.get_structured_replies_negotiated() == $structured
before = open("before.img", "rb").read()
assert h.pread(8 << 20, 0) == before
assert h.pread(1, (8 << 20) - 1) == before[-1:]
assert h.pread(33333, 1048570) == before[1048570:1048570 + 33333]
if $structured:
    chunks = []
    def chunk(buf, offset, status, error): chunks.append((offset, bytes(buf), status))
    h.pread_structured(65536, 1 << 20, chunk, nbd.CMD_FLAG_DF)
    assert chunks == [(1 << 20, before[1 << 20:(1 << 20) + 65536], nbd.READ_DATA)]
    chunks.clear()
    h.pread_structured(4096, 1 << 20, chunk)
    assert b"".join(c[1] for c in sorted(chunks)) == before[1 << 20:(1 << 20) + 4096]
h.pwrite(b"a" * 1000, 100)
h.pwrite(b"b" * 70000, 4000, nbd.CMD_FLAG_FUA)
h.zero(4096, 4096)
h.zero(4096, 12288, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.trim(65536, 5 << 20, nbd.CMD_FLAG_FUA)
h.cache(65536, 0)
h.flush()
want = bytearray(before[:80000])
want[100:1100] = b"a" * 1000
want[4000:74000] = b"b" * 70000
want[4096:8192] = bytes(4096)
want[12288:16384] = bytes(4096)
assert h.pread(80000, 0) == want
extents = []
def got(context, offset, e, error): extents.extend(e)
if $structured:
    h.block_status(8 << 20, 0, got)
    assert sum(extents[0::2]) == 8 << 20, extents
    extents.clear()
    h.block_status(5 << 20, 3 << 20, got, nbd.CMD_FLAG_REQ_ONE)
    assert len(extents) == 2 and extents[0] <= 5 << 20, extents
else:
    assert not h.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
# The device may refuse to be fast, but never half-way.
try:
    h.zero(65536, 6 << 20, nbd.CMD_FLAG_FAST_ZERO)
except nbd.Error as e:
    assert e.errno == "ENOTSUP", e.errno
PY
    done
}

@test "nbdsh: many requests in flight, answered in any order" {
    need nbdsh
    truncate -s 64M disk.img
    serve s -f raw disk.img
    nbdsh -u "$(uri s)" -c - <<'PY'
import random
r = random.Random(3)
n = 2000
def fill(i): return bytes([i % 251 + 1]) * (512 * (i % 50 + 1))
bufs, cookies = [], []
for i in range(n):
    data = fill(i)
    bufs.append(nbd.Buffer.from_bytearray(bytearray(data)))
    cookies.append(h.aio_pwrite(bufs[-1], i * 32768))
while h.aio_in_flight(): h.poll(-1)
for c in cookies: assert h.aio_command_completed(c)
order = list(range(n)); r.shuffle(order)
reads = {}
for i in order:
    b = nbd.Buffer(len(fill(i)))
    reads[h.aio_pread(b, i * 32768)] = (i, b)
while h.aio_in_flight(): h.poll(-1)
for c, (i, b) in reads.items():
    assert h.aio_command_completed(c)
    assert b.to_bytearray() == fill(i), i
PY
}

@test "nbdsh: a request beyond the end or above the maximum is refused, and the connection lives" {
    need nbdsh
    truncate -s 64M disk.img
    serve s -f raw disk.img
    nbdsh -c - <<PY
h.set_strict_mode(0)
h.connect_uri("$(uri s)")
def refused(errno, f, *args):
    try:
        f(*args)
    except nbd.Error as e:
        assert e.errno == errno, (e.errno, errno)
        return
    raise SystemExit("not refused: %s" % errno)
refused("EINVAL", h.pread, 512, 64 << 20)
refused("ENOSPC", h.pwrite, b"x" * 512, (64 << 20) - 511)
refused("ENOSPC", h.zero, 65 << 20, 0)
refused("EINVAL", h.trim, 512, 64 << 20)
refused("EINVAL", h.pwrite, b"x" * ((32 << 20) + 1), 0)
refused("EOVERFLOW", h.pread, (32 << 20) + 1, 0)
h.zero(64 << 20, 0)
h.pwrite(b"x" * (32 << 20), 0)
assert h.pread(32 << 20, 0) == b"x" * (32 << 20)
PY
}

@test "qemu-io reads, writes, zeroes, discards" {
    need qemu-io
    truncate -s 8M disk.img
    serve s -f raw disk.img
    expect 0 qemu-io -f raw -c 'write -P 1 0 1M' -c 'write -P 2 -f 100 700' -c 'aio_write -P 3 1M 64k' -c aio_flush \
        -c 'write -z 2M 1M' -c 'write -z -u 3M 1M' -c 'discard 4M 1M' -c flush -c 'read -P 1 4096 4096' -c 'read -P 2 100 700' \
        -c 'read -P 3 1M 64k' -c 'read -P 0 2M 2M' "$(uri s)"
    lacks "$out" "failed"
    equal "$(hex disk.img 99 2)$(hex disk.img 799 2)" 01020201
}

@test "qemu-img info, compare, convert to and from" {
    need qemu-img
    sparse_disk
    truncate -s 8M copy.img
    serve s -f raw disk.img
    serve d -f raw copy.img
    expect 0 qemu-img info -f raw --output=json "$(uri s)"
    equal "$(jq '.["virtual-size"]' <<<"$out")" 8388608
    expect 0 qemu-img convert -n -W -m 16 -f raw -O raw "$(uri s)" "$(uri d)"
    expect 0 qemu-img compare -f raw -F raw "$(uri s)" "$(uri d)"
    equal "$out" "Images are identical."
    cmp disk.img copy.img
    expect 0 qemu-img convert -f raw -O qcow2 "$(uri s)" copy.qcow2
    expect 0 qemu-img compare -f raw -F qcow2 disk.img copy.qcow2
}

@test "qemu-nbd --list" {
    need qemu-nbd
    truncate -s 1M disk.img
    serve s --description 'two of them' -f raw one=disk.img two=disk.img --read-only
    expect 0 qemu-nbd --list --socket="$(sock s)"
    contains "$out" "exports available: 2"
    contains "$out" "export: 'one'"
    contains "$out" "export: 'two'"
    contains "$out" "description: two of them"
    contains "$out" "size:  1048576"
    contains "$out" "flags: 0x5"
    contains "$out" "base:allocation"
    contains "$out" "min block: 1"
    contains "$out" "opt block: 4096"
    contains "$out" "max block: 33554432"
}

@test "fio, 32 deep, verified" {
    need fio
    truncate -s 64M disk.img
    serve s -f raw disk.img
    expect 0 fio --name=f --ioengine=nbd --uri="$(uri s)" --size=64M --rw=randwrite --bsrange=512-128k --iodepth=32 \
        --verify=crc32c --randseed=1 --fsync=32
    contains "$out" "err= 0"
}

@test "nbdkit's nbd plugin passes everything on" {
    need nbdkit nbdcopy nbdinfo
    sparse_disk
    serve s -f raw disk.img
    nbdkit_serve k nbd uri="$(uri s)"
    expect 0 nbdcopy "$(uri k)" out.img
    cmp out.img disk.img
    expect 0 nbdinfo --map "$(uri k)"
    equal "$(awk '{ print $1, $2, $3 }' <<<"$out" | head -n 2)" "0 1048576 3
1048576 1048576 0"
    expect 0 nbdcopy data.img "$(uri k)"
    equal "$(cmp -n 1048576 data.img disk.img; echo $?)" 0
    # Its filters reach corners that clients do not: tiny blocks, and everything read twice.
    nbdkit_serve k2 --filter=blocksize nbd uri="$(uri s)" maxdata=4096
    expect 0 nbdcopy "$(uri k2)" out2.img
    cmp out2.img disk.img
}

@test "nbdfuse: the disk as a file" {
    need nbdfuse fusermount3
    [ -w /dev/fuse ] || skip "/dev/fuse cannot be used"
    sparse_disk
    serve s -f raw disk.img
    mkdir m
    bg fuse nbdfuse m "$(uri s)"
    wait_until "the mount" test -e m/nbd || skip "FUSE mounts are not allowed here: $(cat fuse.err)"
    cmp m/nbd disk.img
    dd if=data.img of=m/nbd bs=4096 seek=100 count=10 conv=notrunc,fsync status=none
    fusermount3 -u m
    reap fuse || true
    equal "$(cmp -n 40960 data.img <(tail -c +409601 disk.img); echo $?)" 0
}

@test "several connections, over TCP and unix sockets at once" {
    need nbdcopy
    pattern_file in.img 16777216 5
    truncate -s 16M disk.img
    bg s blkproof serve --nbd "unix:$(sock s)" --nbd tcp:127.0.0.1:0 --json -f raw disk.img
    wait_for_line s.out ready
    tcp=$(jq -r '.exports[0].uri[1]' s.out)
    matches "$tcp" '^nbd://127.0.0.1:[0-9]+/$'
    expect 0 nbdcopy --connections=4 in.img "$tcp"
    expect 0 nbdcopy --connections=4 "$(uri s)" out.img
    cmp in.img out.img
    cmp in.img disk.img
}

@test "the threads engine serves as well" {
    need nbdcopy fio
    pattern_file in.img 16777216 5
    truncate -s 16M disk.img
    BLKPROOF_ENGINE=threads serve s -f raw disk.img
    expect 0 nbdcopy --connections=4 in.img "$(uri s)"
    expect 0 nbdcopy "$(uri s)" out.img
    cmp in.img out.img
    expect 0 fio --name=f --ioengine=nbd --uri="$(uri s)" --size=16M --rw=randwrite --bsrange=512-128k --iodepth=32 \
        --verify=crc32c --randseed=1 --fsync=32
    expect 0 stop s
}
