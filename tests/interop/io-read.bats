#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# The commands that read, side by side with QEMU's qemu-io.

load ../lib/common
load ../lib/qemu_io

setup() {
    setup_peers
}

@test "read: results, dumps, statistics" {
    same_commands <<'END'
read 0 512
r 0 512
read -v 0 40
read -v 1000000 17
read -C 0 4k
read -q 0 512
read -qv 0 16
read -p 0 512
read 0x10 0x20
read 0 1.5k
read 0 0
read 1M 0
read 2M 0
read 0 512 -q
read -P 0 -- 0 16
read 0  512
END
}

@test "dumps: letters and digits, dots for the rest" {
    same -f raw -c 'write -q -s pattern 5 40' -c 'read -v 0 50' -c 'readv -v 3 5 7' -c 'aio_read -qv 0 9' -c aio_flush a.raw
}

@test "read: the end of the image" {
    same_commands <<'END'
read 1M 512
read 1048000 4k
read 1048064 512
read 7.9e 1
END
}

@test "read -P: what is checked and what is said" {
    same_commands <<'END'
read -P 0 0 512
read -P 1 0 512
read -P 0xff 0 512
read -P 010 0 512
read -P 0 -s 100 0 512
read -P 0 -l 100 0 512
read -P 1 -s 100 -l 7 5 512
read -P 1 -s 100 0 512
read -P 0 -s 500 -l 100 0 512
read -P 0 -s 600 0 512
read -qP 5 0 16
read -vP 5 0 16
END
    same -f raw -c 'read -P 0xcd 0 512' -c 'read -P 0xcd 0 513' -c 'read -P 0 512 512' h.raw
}

@test "read: wrong arguments" {
    same_commands <<'END'
read
read 0
read 0 512 512
read -Z 0 512
read -a 0 512
read 0 -512
read -s 500 0 512
read -s x 0 512
read -l x -P 0 0 512
read -P 300 0 512
read -P 256 0 512
read -P -1 0 512
read -P 0x 0 512
read -P 5k 0 512
read -P
read 0 2G
R 0 512
END
}

@test "read -b: no VM state in raw" {
    same_commands <<'END'
read -b 0 512
read -b 1 512
read -b 0 511
END
}

@test "numbers" {
    same_commands <<'END'
read abc 1
read 1 abc
read 9e 1
read 1 9e
read 8e 1
read 1.5 0
read 0.5k 1
read 1e3 1
read +5 1
read 1.k 1
read .5k 1
read 0X10 1
read 010 1
read 1B 1
read 1b 1
read 1kk 1
read 1kB 1
read 0x 1
read 0 1K
read 8191P 1
read 8192P 1
read 9223372036854775807 1
read 9223372036854775808 1
read 18446744073709551615 1
read 99999999999999999999999 1
END
}

@test "readv" {
    same_commands <<'END'
readv 0 512
readv 0 512 512
readv -v 0 16 16
readv -C 0 16 16
readv -q 0 16 16
readv -P 0 0 100 100
readv -P 5 0 100 100
readv 0 0
readv 1M 512
readv
readv 0
readv -x
readv -x 0 512
readv 0 abc
readv 0 512 3G
readv 0 2000000000 2000000000
END
}

@test "aio_read: prints its outcome, and is successful whatever that is" {
    same_commands <<'END'
aio_read 0 512
aio_read -v 0 16
aio_read -P 9 0 512
aio_read -C 0 512
aio_read -q 0 512
aio_read 0 16 16 16
aio_read 1M 512
aio_read -q 1M 512
aio_read -i 0 512
aio_read
aio_read -x 0 1
aio_read 0 3G
aio_flush
aio_flush 1
END
}
