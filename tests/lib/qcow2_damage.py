#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Damage a qcow2 image: qcow2_damage.py IMAGE WHAT [INDEX]; prints what it did.

Written from the format's specification alone (docs/interop/qcow2), so that the checker is not judged by
its own tables. WHAT is a name from the list at the end, or a number: a seed for one to three of them.
"""
import random
import struct
import sys


class Image:
    def __init__(self, path):
        self.path = path
        with open(path, "rb") as f:
            self.d = bytearray(f.read())
        self.version = self.u32(4)
        self.bits = self.u32(20)
        self.cluster = 1 << self.bits
        self.l1_size = self.u32(36)
        self.l1 = self.u64(40)
        self.reftable = self.u64(48)
        self.snapshots = self.u32(60)
        self.snapshot_table = self.u64(64)
        self.ext_l2 = self.version >= 3 and bool(self.u64(72) & 16)
        self.order = self.u32(96) if self.version >= 3 else 4

    def u32(self, at):
        return struct.unpack_from(">I", self.d, at)[0]

    def u64(self, at):
        return struct.unpack_from(">Q", self.d, at)[0]

    def put(self, at, value):
        struct.pack_into(">Q", self.d, at, value & (1 << 64) - 1)

    def put32(self, at, value):
        struct.pack_into(">I", self.d, at, value)

    def l1_entries(self):
        return [self.l1 + 8 * i for i in range(self.l1_size) if self.u64(self.l1 + 8 * i)]

    def l2_entries(self, compressed=False):
        """Places of the entries that map something."""
        step, found = 16 if self.ext_l2 else 8, []
        for at in self.l1_entries():
            table = self.u64(at) & 0x00FFFFFFFFFFFE00
            for i in range(table, min(table + self.cluster, len(self.d) - step), step):
                e = self.u64(i)
                if e & 0x00FFFFFFFFFFFE00 and bool(e >> 62 & 1) == compressed:
                    found.append(i)
        return found

    def blocks(self):
        return [self.reftable + 8 * i for i in range(self.cluster // 8) if self.u64(self.reftable + 8 * i)]

    def set_ref(self, cluster, value):
        per = self.cluster * 8 >> self.order
        block = self.u64(self.reftable + 8 * (cluster // per))
        at = cluster % per
        if self.order >= 3:
            width = 1 << self.order - 3
            self.d[block + at * width:block + (at + 1) * width] = value.to_bytes(8, "big")[-width:]
        else:
            bits = 1 << self.order
            byte, shift = block + (at * bits >> 3), at * bits & 7
            mask = (1 << bits) - 1 << shift
            self.d[byte] = self.d[byte] & ~mask | value << shift & mask

    def save(self):
        with open(self.path, "wb") as f:
            f.write(self.d)


def pick(r, places):
    return r.choice(places) if places else None


def change(places, how):
    def do(im, r):
        at = pick(r, places(im))
        if at is None:
            return False
        im.put(at, how(im, im.u64(at), r))
        return True
    return do


L1 = lambda im: im.l1_entries()
L2 = lambda im: im.l2_entries()
PACKED = lambda im: im.l2_entries(compressed=True)
BLOCKS = lambda im: im.blocks()
OFFSET = 0x00FFFFFFFFFFFE00


def redirect(im, e, r):
    """To another cluster of the file."""
    return e & ~OFFSET | r.randrange(len(im.d) >> im.bits) << im.bits


def redirect_data(im, e, r):
    """To the place of another entry."""
    return e & ~OFFSET | im.u64(r.choice(im.l2_entries())) & OFFSET


def refcount(value):
    def do(im, r):
        im.set_ref(r.randrange(len(im.d) >> im.bits), min(value, (1 << (1 << im.order)) - 1))
        return True
    return do


def any_refcount(im, r):
    im.set_ref(r.randrange(len(im.d) >> im.bits), r.randrange(1 << min(1 << im.order, 32)))
    return True


def leak(im, r):
    im.set_ref(len(im.d) >> im.bits, 1)
    im.d += bytes(im.cluster)
    return True


def subclusters(im, r):
    at = pick(r, im.l2_entries()) if im.ext_l2 else None
    if at is None:
        return False
    im.put(at + 8, im.u64(at + 8) | 1 << r.randrange(64))
    return True


def incompatible(bit):
    def do(im, r):
        if im.version < 3:
            return False
        im.put(72, im.u64(72) | bit)
        return True
    return do


def snapshot_l1_size(im, r):
    if not im.snapshots:
        return False
    im.put32(im.snapshot_table + 8, 1 << 23)
    return True


WHAT = {
    "l1-unaligned": change(L1, lambda im, e, r: e | 512 if im.bits > 9 else e),
    "l1-reserved": change(L1, lambda im, e, r: e | 1 << 60),
    "l1-copied": change(L1, lambda im, e, r: e ^ 1 << 63),
    "l1-past-end": change(L1, lambda im, e, r: e | 1 << 40),
    "l1-zero": change(L1, lambda im, e, r: 0),
    "l2-unaligned": change(L2, lambda im, e, r: e | 512 if im.bits > 9 else e),
    "l2-reserved": change(L2, lambda im, e, r: e | 1 << 58),
    "l2-copied": change(L2, lambda im, e, r: e ^ 1 << 63),
    "l2-past-end": change(L2, lambda im, e, r: e | 1 << 40),
    "l2-zero": change(L2, lambda im, e, r: 0),
    "l2-cross": change(L2, redirect_data),
    "l2-elsewhere": change(L2, redirect),
    "packed-copied": change(PACKED, lambda im, e, r: e | 1 << 63),
    "packed-past-end": change(PACKED, lambda im, e, r: e | 1 << 40),
    "refcount-zero": refcount(0),
    "refcount-high": refcount(3),
    "refcount-any": any_refcount,
    "leak": leak,
    "reftable-zero": change(BLOCKS, lambda im, e, r: 0),
    "reftable-reserved": change(BLOCKS, lambda im, e, r: e | 1),
    "subclusters": subclusters,
    "dirty": incompatible(1),
    "corrupt": incompatible(2),
    "snapshot-l1-size": snapshot_l1_size,
}


def main():
    path, what = sys.argv[1], sys.argv[2]
    r = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else what)
    im = Image(path)
    names = [what]
    if what.isdigit():
        names = [r.choice(sorted(WHAT)) for _ in range(r.choice([1, 1, 1, 2, 3]))]
    for name in names:
        print(name if WHAT[name](im, r) else name + ": nothing to damage")
    im.save()


main()
