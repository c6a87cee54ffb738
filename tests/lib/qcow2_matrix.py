#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A random qcow2 image with a random history, written in turn by QEMU's programs and by ours.

    qcow2_matrix.py --seed N [--images N] [--operations N] [--verbose] DIR

Image number i (made in DIR, from seed + i) takes the next values of every dimension: version, cluster size,
refcount width, subclusters, compression, data file, backing file, preallocation, lazy refcounts. After
creation and after every operation (writes, zeroes, discards, compressed writes, resizes, snapshots,
bitmaps, amend, rebase, commit; each by qemu-io and qemu-img or by blkproof under their names, at random):
    - `qemu-img check` finds no error and no leak, and so does ours,
    - QEMU and we read the same bytes, and they are what a plain bytearray says they must be,
    - QEMU (qemu-nbd, nbdinfo) finds in each bitmap the bits of what was written since, and no others.
A failure prints the command line that repeats it, and the history. Only the Python standard library.
"""
import argparse
import json
import os
import random
import shlex
import subprocess
import sys

KIB, MIB = 1 << 10, 1 << 20
CLUSTERS = [64 * KIB, 512, 2 * MIB, 4 * KIB, 16 * KIB, 1 * KIB, 128 * KIB, 2 * KIB, 1 * MIB, 32 * KIB, 8 * KIB,
            512 * KIB, 256 * KIB]
WIDTHS = [16, 1, 64, 2, 8, 32, 4]


class Failure(Exception):
    pass


def abbreviated(text, lines=12):
    text = text.strip().splitlines()
    return "\n".join(text[:lines] + (["..."] if len(text) > lines else []))


class Bitmap:
    """What was written while it was enabled: bits that must be set, and those that may be."""

    def __init__(self, granularity):
        self.granularity, self.enabled = granularity, True
        self.must, self.may = set(), set()

    def grains(self, start, length):
        return range(start // self.granularity, -(-(start + length) // self.granularity)) if length > 0 else ()

    def mark(self, start, length, surely=True):
        if self.enabled:
            self.may.update(self.grains(start, length))
            if surely:
                self.must.update(self.grains(start, length))

    def merge(self, other):
        for mine, its in (self.must, other.must), (self.may, other.may):
            for i in its:
                mine.update(self.grains(i * other.granularity, other.granularity))

    def cut(self, size):
        whole, any_of = size // self.granularity, -(-size // self.granularity)
        self.must = {i for i in self.must if i < whole}
        self.may = {i for i in self.may if i < any_of}


class Image:
    def __init__(self, seed, index, folder, say):
        self.rng = random.Random(seed)
        self.dir, self.say = folder, say
        self.history = []
        self.snapshots = {}  # name: contents
        self.bitmaps = {}  # name: Bitmap
        self.names = 0
        os.makedirs(self.dir, exist_ok=True)
        self.choose(index)

    # ---- running programs ----

    def run(self, who, program, *args, ok=(0,)):
        # ours answers under the names qemu-img and qemu-io
        argv = (["blkproof", program[5:]] if who == "ours" else [program]) + [str(a) for a in args]
        self.history.append(shlex.join(argv))
        self.say("    " + self.history[-1])
        p = subprocess.run(argv, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=300)
        text = p.stdout.decode(errors="replace")
        if p.returncode not in ok:
            raise Failure("exit status %d: %s\n%s" % (p.returncode, self.history[-1], abbreviated(text)))
        return p.returncode, text

    def somebody(self):
        return self.rng.choice(["ours", "qemu"])

    def io(self, who, *commands):
        args = ["--image-opts", self.opts()] if self.discards() else ["-f", "qcow2", "i.qcow2"]
        args = [a for a in args if a]
        self.run(who, "qemu-io", *args, *[x for c in commands for x in ("-c", c)])

    def opts(self):
        return "driver=qcow2,discard=unmap,file.driver=file,file.filename=i.qcow2"

    def discards(self):
        return True

    # ---- the image ----

    def choose(self, i):
        r = self.rng
        self.cluster = CLUSTERS[i % len(CLUSTERS)]
        self.v3 = i % 4 != 3
        self.width = WIDTHS[i % len(WIDTHS)] if self.v3 else 16
        self.subclusters = self.v3 and self.cluster >= 16 * KIB and r.random() < 0.5
        self.data_file = self.v3 and i % 5 == 2
        self.data_raw = self.data_file and r.random() < 0.5
        self.backing = None if self.data_raw else r.choice([None, "raw", "qcow2"])
        # Compressed clusters share a host cluster, each with a reference, and a snapshot doubles them: what a
        # narrow width cannot count, QEMU and we refuse. Such an image has the one or the other.
        self.compresses = not self.data_file and (self.width > 8 or r.random() < 0.5)
        self.narrow = self.width <= 8  # amend does not cross this line
        self.can_snapshot = not self.data_file and self.width > 1 and not (self.compresses and self.narrow)
        self.zstd = self.v3 and r.random() < 0.5
        self.lazy = self.v3 and r.random() < 0.25
        self.prealloc = r.choice(["off", "metadata"]) if not self.backing else "off"
        sizes = max(self.cluster * 6, min(2 * MIB, self.cluster * 700))
        self.size = r.randrange(sizes // 2, sizes) // 512 * 512
        self.model = bytearray(self.size)

    def options(self):
        o = ["cluster_size=%d" % self.cluster, "compat=" + ("1.1" if self.v3 else "0.10"),
             "refcount_bits=%d" % self.width, "preallocation=" + self.prealloc]
        o += ["extended_l2=on"] * self.subclusters + ["compression_type=zstd"] * self.zstd
        o += ["lazy_refcounts=on"] * self.lazy
        if self.data_file:
            o += ["data_file=i.data", "data_file_raw=" + ("on" if self.data_raw else "off")]
        return ",".join(o)

    def fill_random(self, name, size):
        data = self.rng.randbytes(size)
        with open(os.path.join(self.dir, name), "wb") as f:
            f.write(data)
        return data

    def create(self):
        extra = []
        if self.backing:
            size = self.rng.choice([self.size, self.size // 3 // 512 * 512 + 512])
            data = self.fill_random("b.raw", size)
            self.model[:size] = data[:self.size]
            self.base = bytes(self.model)
            name = "b.raw"
            if self.backing == "qcow2":
                name = "b.qcow2"
                compressed = ["-c"] if self.rng.random() < 0.5 else []
                self.run(self.somebody(), "qemu-img", "convert", *compressed, "-f", "raw", "-O", "qcow2", "b.raw", name)
            extra = ["-b", name, "-F", self.backing]
            self.base_size = size
        else:
            self.base = bytes(self.size)
        self.run(self.somebody(), "qemu-img", "create", "-q", "-f", "qcow2", "-o", self.options(), *extra, "i.qcow2",
                 self.size)

    # ---- what must hold after every operation ----

    def contents(self, who, *args):
        self.run(who, "qemu-img", "convert", "-O", "raw", *args, "i.qcow2", who + ".out")
        self.history.pop()  # not part of what happened to the image
        with open(os.path.join(self.dir, who + ".out"), "rb") as f:
            return f.read()

    def judge(self, snapshot=None):
        _, text = self.run("qemu", "qemu-img", "check", "-f", "qcow2", "i.qcow2")
        self.history.pop()
        if "No errors were found on the image." not in text:
            raise Failure("qemu-img check:\n" + abbreviated(text))
        self.run("ours", "qemu-img", "check", "-f", "qcow2", "i.qcow2")
        self.history.pop()
        self.same_info()
        self.same_contents(self.model, "-f", "qcow2")
        if snapshot:
            self.same_contents(self.snapshots[snapshot], "-f", "qcow2", "-l", snapshot)

    def same_info(self):
        """Both tell of the same snapshots and bitmaps."""
        told = {}
        for who in "qemu", "ours":
            _, text = self.run(who, "qemu-img", "info", "--output=json", "-f", "qcow2", "i.qcow2")
            self.history.pop()
            info = json.loads(text)
            bitmaps = info["format-specific"]["data"].get("bitmaps", [])
            told[who] = {"snapshots": info.get("snapshots", []), "bitmaps": sorted(bitmaps, key=lambda b: b["name"]),
                         "size": info["virtual-size"]}
        if told["qemu"] != told["ours"]:
            raise Failure("img info differs: QEMU: %s\nours: %s" % (told["qemu"], told["ours"]))
        names = [b["name"] for b in told["qemu"]["bitmaps"]]
        if names != sorted(self.bitmaps):
            raise Failure("bitmaps are %s instead of %s" % (names, sorted(self.bitmaps)))
        for name in names:
            self.same_bits(name, self.bitmaps[name])

    def same_bits(self, name, b):
        b.cut(len(self.model))
        _, text = self.run("qemu", "nbdinfo", "--map=qemu:dirty-bitmap:" + name, "--json", "--", "[", "qemu-nbd", "-r", "-f",
                           "qcow2", "-B", name, "i.qcow2", "]")
        self.history.pop()
        got = set()
        for extent in json.loads(text):
            if extent["type"] & 1:
                got.update(b.grains(extent["offset"], min(extent["length"], len(self.model) - extent["offset"])))
        if b.must - got or got - b.may:
            raise Failure("bitmap %s (granularity %d) lacks the bits %s and has %s too many" % (
                name, b.granularity, sorted(b.must - got)[:8], sorted(got - b.may)[:8]))

    def mark(self, start, length, surely=True):
        for b in self.bitmaps.values():
            b.mark(start, length, surely)

    def same_contents(self, model, *args):
        for who in "qemu", "ours":
            got = self.contents(who, *args)
            if "-l" in args:  # QEMU reads a snapshot with the size that the image has now
                shorter = min(len(got), len(model))
                got, model = got[:shorter], model[:shorter]
            if got == model:
                continue
            if len(got) != len(model):
                raise Failure("%s reads %d bytes instead of %d" % (who, len(got), len(model)))
            at = next(i for i in range(len(got)) if got[i] != model[i])
            end = at + 16
            raise Failure("%s reads %s instead of %s at offset %d (%s)" % (
                who, got[at:end].hex(), model[at:end].hex(), at, " ".join(args)))

    # ---- operations ----

    def range(self, unit):
        """A range of whole units, often at the border of a cluster; short ones are the rule."""
        r, size = self.rng, len(self.model)
        longest = min(size, self.cluster * r.choice([1, 1, 2, 5]))
        start = r.randrange(0, size)
        if r.random() < 0.4:
            start = start // self.cluster * self.cluster
        start = start // unit * unit
        length = max(unit, r.randrange(1, longest + 1) // unit * unit)
        return start, min(length, size - start)

    def op_write(self):
        who, commands = self.somebody(), []
        for _ in range(self.rng.choice([1, 1, 3, 8])):
            start, length = self.range(self.rng.choice([1, 512, 4096]))
            if self.rng.random() < 0.3:
                name = "w%d.data" % self.names
                self.names += 1
                data = self.fill_random(name, length)
                commands.append("write -q -s %s %d %d" % (name, start, length))
            else:
                byte = self.rng.randrange(1, 256)
                data = bytes([byte]) * length
                commands.append("write -q -P %d %d %d" % (byte, start, length))
            self.model[start:start + length] = data
            self.mark(start, length)
        self.io(who, *commands)

    def op_aio(self):
        """Many at once in different clusters, which allocate side by side; then a flush."""
        size, commands = len(self.model), []
        count = size // self.cluster
        for c in self.rng.sample(range(count), min(count, 12)):
            start = c * self.cluster + self.rng.randrange(0, self.cluster // 512) * 512
            length = min(512 * self.rng.randrange(1, 9), (c + 1) * self.cluster - start)
            byte = self.rng.randrange(1, 256)
            commands.append("aio_write -q -P %d %d %d" % (byte, start, length))
            self.model[start:start + length] = bytes([byte]) * length
            self.mark(start, length)
        self.io(self.somebody(), *commands, "aio_flush")

    def op_zero(self):
        start, length = self.range(self.rng.choice([1, 512, self.cluster]))
        self.io(self.somebody(), "write -q -z %s %d %d" % (self.rng.choice(["", "-u"]), start, length))
        self.model[start:start + length] = bytes(length)
        self.mark(start, length)

    def op_discard(self):
        """Each sector shows what it held, zeroes, or the backing file; which of them is then fixed."""
        start, length = self.range(self.rng.choice([512, self.cluster, self.cluster]))
        length = length // 512 * 512
        self.io(self.somebody(), "discard -q %d %d" % (start, length))
        self.mark(start, length, False)  # what is less than a cluster may be left out
        got = self.contents("qemu", "-f", "qcow2")
        base = self.base.ljust(len(self.model), b"\0")
        for at in range(start, start + length, 512):
            end = at + 512
            if got[at:end] not in (self.model[at:end], bytes(512), base[at:end]):
                raise Failure("offset %d shows %s after a discard" % (at, got[at:at + 16].hex()))
            self.model[at:end] = got[at:end]

    def op_compressed(self):
        # QEMU does not compress over a cluster, and cannot get rid of one that hides a backing file in version 2.
        who, commands = self.somebody() if self.v3 or not self.backing else "ours", []
        for _ in range(self.rng.randrange(1, 5)):
            start = self.rng.randrange(0, len(self.model)) // self.cluster * self.cluster
            length = min(self.cluster, len(self.model) - start)
            if who == "qemu" and length == self.cluster:
                commands.append("discard -q %d %d" % (start, length))
            byte = self.rng.randrange(1, 256)
            data = bytearray(bytes([byte]) * length)
            if length == self.cluster and self.rng.random() < 0.3:  # does not shrink
                name = "w%d.data" % self.names
                self.names += 1
                data = self.fill_random(name, length)
                commands.append("write -q -c -s %s %d %d" % (name, start, length))
            elif length == self.cluster:
                commands.append("write -q -c -P %d %d %d" % (byte, start, length))
            else:
                commands.append("write -q -P %d %d %d" % (byte, start, length))
            self.model[start:start + length] = data
            self.mark(start, length)
        self.io(who, *commands)

    def op_resize(self):
        size = max(512, int(len(self.model) * self.rng.choice([0.6, 0.9, 1.1, 1.4])) // 512 * 512)
        if self.snapshots and (not self.v3 or size < len(self.model)):
            return False
        if size > 24 * MIB:
            return False
        shrink = ["--shrink"] if size < len(self.model) else []
        self.run(self.somebody(), "qemu-img", "resize", "-q", *shrink, "-f", "qcow2", "i.qcow2", size)
        self.model = self.model[:size].ljust(size, b"\0")
        # Behind the new end the backing file stays hidden when the image grows again.
        self.base = self.base[:size]
        for b in self.bitmaps.values():
            b.cut(size)

    def op_snapshot(self):
        r = self.rng
        most = 1 if self.width == 2 else 3
        if not self.can_snapshot:
            return False
        what = r.choice("cad" if self.snapshots else "c")
        if what == "c" and len(self.snapshots) >= most:
            what = "d"
        if what == "c":
            name = "s%d" % self.names
            self.names += 1
            self.snapshots[name] = bytes(self.model)
        else:
            name = r.choice(sorted(self.snapshots))
        if what == "a" and self.bitmaps:  # both refuse
            return False
        if what == "a" and not self.v3 and len(self.snapshots[name]) != len(self.model):
            return False
        self.run(self.somebody(), "qemu-img", "snapshot", "-" + what, name, "i.qcow2")
        if what == "a":
            self.model = bytearray(self.snapshots[name])
        elif what == "d":
            del self.snapshots[name]

    def op_bitmap(self):
        if not self.v3:
            return False
        if self.bitmaps and (self.rng.random() < 0.6 or len(self.bitmaps) == 4):
            name = self.rng.choice(sorted(self.bitmaps))
            b, what = self.bitmaps[name], [self.rng.choice(["--remove", "--clear", "--disable", "--enable", "--merge"])]
            if what[0] == "--remove":
                del self.bitmaps[name]
            elif what[0] == "--clear":
                b.must, b.may = set(), set()
            elif what[0] == "--merge":
                what.append(self.rng.choice(sorted(self.bitmaps)))
                b.merge(self.bitmaps[what[1]])
            else:
                b.enabled = what[0] == "--enable"
        else:
            granularity = 512 << self.rng.randrange(0, 9)
            name, what = "b%d" % self.names, ["--add", "-g", granularity]
            self.names += 1
            self.bitmaps[name] = Bitmap(granularity)
        self.run(self.somebody(), "qemu-img", "bitmap", *what, "-f", "qcow2", "i.qcow2", name)

    def op_amend(self):
        r = self.rng
        may_be_v2 = not (self.bitmaps or self.data_file or self.subclusters or self.zstd) and self.width == 16 and \
            all(len(s) == len(self.model) for s in self.snapshots.values())
        what = r.choice(["version"] * (may_be_v2 or not self.v3) + ["width", "lazy"] * self.v3)
        if what == "version":
            self.v3 = not self.v3
            option = "compat=" + ("1.1" if self.v3 else "0.10")
        elif what == "width":
            self.width = r.choice([w for w in WIDTHS if w >= self.width and (w <= 8) == self.narrow] + [64])
            self.narrow = self.narrow and self.width <= 8
            option = "refcount_bits=%d" % self.width
        else:
            option = "lazy_refcounts=" + r.choice(["on", "off"])
        self.run(self.somebody(), "qemu-img", "amend", "-f", "qcow2", "-o", option, "i.qcow2")

    def op_rebase(self):
        """Onto a file with other content; snapshots would show it."""
        if not self.backing or self.snapshots:
            return False
        size = self.rng.choice([len(self.model), len(self.model) // 2 // 512 * 512 + 512])
        name = "n%d.raw" % self.names
        self.names += 1
        data = self.fill_random(name, size)
        self.run(self.somebody(), "qemu-img", "rebase", "-f", "qcow2", "-b", name, "-F", "raw", "i.qcow2")
        self.base, self.base_size = data[:len(self.model)], size
        self.mark(0, len(self.model), False)

    def op_commit(self):
        """Everything goes into the backing file; what the image shows stays the same, and so do bitmaps."""
        if not self.backing or self.snapshots or self.base_size > len(self.model):
            return False
        self.run(self.somebody(), "qemu-img", "commit", "-q", "-f", "qcow2", "i.qcow2")
        self.base, self.base_size = bytes(self.model), len(self.model)

    def step(self):
        ops = [self.op_write] * 4 + [self.op_aio] * 2 + [self.op_zero] * 2 + [self.op_discard] * 2
        ops += [self.op_snapshot] * 2 + [self.op_resize] + [self.op_bitmap] * 2
        ops += [self.op_amend, self.op_rebase, self.op_commit]
        ops += [self.op_compressed] * 2 * self.compresses
        while self.rng.choice(ops)() is False:
            pass
        self.judge(self.rng.choice(sorted(self.snapshots)) if self.snapshots else None)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--images", type=int, default=1)
    p.add_argument("--operations", type=int, default=20)
    p.add_argument("--verbose", action="store_true")
    p.add_argument("dir")
    a = p.parse_args()
    failed = 0
    for seed in range(a.seed, a.seed + a.images):
        folder = os.path.join(a.dir, "seed-%d" % seed)
        subprocess.run(["rm", "-rf", folder], check=True)
        image = Image(seed, seed, folder, print if a.verbose else lambda text: None)
        try:
            image.create()
            image.judge()
            for _ in range(a.operations):
                image.step()
            subprocess.run(["rm", "-rf", folder], check=True)
        except (Failure, subprocess.TimeoutExpired) as e:
            failed += 1
            print("FAILED: %s\n  history (in %s):" % (e, folder))
            print("\n".join("    " + h for h in image.history[-400:]))
            print("  again: tests/lib/qcow2_matrix.py --seed %d --operations %d DIR" % (seed, a.operations), flush=True)
    print("%d images, %d failed" % (a.images, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
