# SPDX-License-Identifier: BSD-2-Clause
"""Random requests, many at once, of every kind that an NBD server offers:

    PATH=/usr/bin:$PATH python3 nbd_load.py URI SEED REQUESTS

Ranges in flight may touch each other. Fails with the first request that fails."""
import random
import sys

import nbd


def main():
    uri, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    h = nbd.NBD()
    h.connect_uri(uri)
    size = h.get_size()
    failed = []

    def done_as(what):
        def done(error):
            if error.value:
                failed.append("%s: error %d" % (what, error.value))
            return 1
        return done

    for _ in range(count):
        length = rng.choice([512, 4096, 512 * rng.randrange(1, 300), 65536, 1 << 20])
        offset = min(rng.randrange(0, size), size - length) // 512 * 512
        kind = rng.choice("wwwwrrrrzzdf")
        done = done_as("%s %d %d" % (kind, offset, length))
        if kind == "w":
            h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(rng.randbytes(512) * (length // 512))), offset, done)
        elif kind == "r":
            h.aio_pread(nbd.Buffer(length), offset, done)
        elif kind == "z":
            h.aio_zero(length, offset, done, rng.choice([0, nbd.CMD_FLAG_NO_HOLE]))
        elif kind == "d":
            h.aio_trim(length, offset, done)
        else:
            h.aio_flush(done)
        while h.aio_in_flight() >= 32 and not failed:
            h.poll(-1)
    while h.aio_in_flight() > 0:
        h.poll(-1)
    h.shutdown()
    if failed:
        sys.exit("\n".join(failed[:5]))


main()
