#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
#
# qcow2_history.py SEED OPERATIONS WHO OPTIONS: a random history of writes, zeroes, discards, compressed
# writes, resizes and reopenings of one image. WHO: "ours", or "both" for blkproof and qemu-io in turns.
# OPTIONS as after img create -o, and "backing" for a backing file. After every session the image is
# checked by qemu-img, and read by qemu-img and by blkproof: both must see what a model in memory has.
# Works in the current directory.
import random
import subprocess
import sys

KIB, MIB = 1 << 10, 1 << 20


def run(*command, ok=True):
    r = subprocess.run(command, capture_output=True, text=True)
    if ok and r.returncode:
        sys.exit(f"{command[:8]}: {r.returncode}\n{r.stdout[-500:]}{r.stderr[-500:]}")
    return r


class History:
    def __init__(self, seed, who, options):
        self.rng = random.Random(seed)
        self.who = who
        words = [w for w in options.split(",") if w]
        self.backing = "backing" in words
        self.options = [w for w in words if w != "backing"]
        self.v2 = "compat=0.10" in words
        self.packs = not any(w.startswith("data_file") for w in words)
        self.cluster = 64 * KIB
        for w in words:
            if w.startswith("cluster_size="):
                unit = {"k": KIB, "M": MIB}.get(w[-1], 1)
                self.cluster = int(w[13:].rstrip("kM")) * unit
        self.size = self.rng.choice([MIB, 3 * MIB, 5 * MIB + 7 * 512, 16 * MIB])
        self.model = bytearray(self.size)
        self.create(seed)

    def create(self, seed):
        options = list(self.options)
        if self.backing:
            length = self.rng.choice([self.size, self.size // 2, self.size + 64 * KIB])
            data = bytearray(random.Random(seed).randbytes(length))
            data[length // 4:length // 2] = bytes(length // 2 - length // 4)
            with open("base.raw", "wb") as f:
                f.write(data)
            self.model = (data + bytes(self.size))[:self.size]
            options += ["backing_file=base.raw", "backing_fmt=raw"]
        tool = ["blkproof", "img"]
        if self.who == "both" and self.rng.random() < 0.5:
            tool = ["qemu-img"]
        run(*tool, "create", "-q", "-f", "qcow2", *(["-o", ",".join(options)] if options else []),
            "x.qcow2", str(self.size))

    def choose(self):
        kind = self.rng.random()
        if kind < 0.3:
            offset, length = self.rng.randrange(self.size // 512) * 512, self.rng.randrange(1, 64) * 512
        elif kind < 0.6:
            offset = self.rng.randrange(self.size // self.cluster + 1) * self.cluster
            length = self.rng.randrange(1, 4) * self.cluster
        elif kind < 0.8:
            offset, length = self.rng.randrange(self.size), self.rng.randrange(1, 70000)
        else:
            offset, length = self.rng.randrange(self.size // 512) * 512, self.rng.randrange(1, self.size // 2)
        offset = min(offset, self.size - 1)
        return offset, max(1, min(length, self.size - offset))

    def operation(self, ours):
        what = self.rng.choice("wwwwzudcfr")
        offset, length = self.choose()
        end, cluster = offset + length, self.cluster
        byte = self.rng.randrange(1, 256)
        if what == "w":
            self.model[offset:end] = bytes([byte]) * length
            return f"write -q -P {byte} {offset} {length}"
        if what in "zu":
            self.model[offset:end] = bytes(length)
            return f"write -q -z {'-u ' if what == 'u' else ''}{offset} {length}"
        if what == "d":
            offset, end = -(-offset // cluster) * cluster, end // cluster * cluster
            if end > offset:
                if not (self.v2 and self.backing):  # there it may not do anything
                    self.model[offset:end] = bytes(end - offset)
                return f"discard -q {offset} {end - offset}"
        if what == "c" and self.packs and ours:  # QEMU overwrites no cluster with a compressed one
            offset = offset // cluster * cluster
            end = min(offset + max(1, length // cluster) * cluster, offset + 8 * cluster, self.size)
            self.model[offset:end] = bytes([byte]) * (end - offset)
            return f"write -q -c -P {byte} {offset} {end - offset}"
        if what == "r":
            return f"read -q -P {self.model[offset]} {offset} 1"
        return "flush"

    def session(self, count):
        ours = self.who == "ours" or self.rng.random() < 0.5
        commands = []
        for _ in range(count):
            commands += ["-c", self.operation(ours)]
        cache = self.rng.choice(["writeback", "writethrough", "unsafe"])
        r = run(*(["blkproof", "io"] if ours else ["qemu-io"]), "-f", "qcow2", "-t", cache, "-d", "unmap",
                "x.qcow2", *commands)
        if "failed" in r.stdout + r.stderr:
            sys.exit(f"{r.stdout}{r.stderr}{commands}")

    def resize(self):
        change = self.rng.randrange(0, MIB) // 512 * 512
        size = max(512, self.size + self.rng.choice([change, -change]))
        run("blkproof", "img", "resize", "-q", "--shrink", "-f", "qcow2", "x.qcow2", str(size))
        self.model = self.model[:size] + bytes(max(0, size - self.size))
        self.size = size

    def judge(self):
        r = run("qemu-img", "check", "-f", "qcow2", "x.qcow2", ok=False)
        if r.returncode:
            sys.exit(f"qemu-img check: {r.returncode}\n{r.stdout[-800:]}{r.stderr[-800:]}")
        for tool in (["qemu-img"], ["blkproof", "img"]):
            run(*tool, "convert", "-f", "qcow2", "-O", "raw", "x.qcow2", "out.raw")
            with open("out.raw", "rb") as f:
                seen = f.read()
            if seen != self.model:
                at = next((i for i, (a, b) in enumerate(zip(seen, self.model)) if a != b), "the end")
                sys.exit(f"{tool[0]} reads something else at {at}")


def main():
    seed, operations, who, options = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    history = History(seed, who, options)
    done = 0
    while done < operations:
        count = history.rng.randrange(1, 40)
        history.session(count)
        done += count
        if history.rng.random() < 0.3:
            history.resize()
        history.judge()


main()
