#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# The commands that write, side by side with QEMU's qemu-io; the images are compared as well.

load ../lib/common
load ../lib/qemu_io

setup() {
    setup_peers
}

@test "write: results and statistics" {
    same_commands <<'END'
write 0 512
w 1 5
write -q 0 512
write -C 0 512
write -P 5 0 512
write -P 0x7f 1000 1000
write -f 0 512
write -p 0 512
write 0 0
write -z 0 512
write -z 3 5000
write -z -u 0 4k
write -z -n 0 4k
write -s pattern 0 10
write -s pattern 5 4096
write 1M 512
write 1048000 4k
write -z 1M 512
END
}

@test "write: wrong arguments" {
    same_commands <<'END'
write
write 0
write 0 1 2
write -x 0 1
write -P x 0 512
write -u 0 512
write -n 0 512
write -z -P 1 0 512
write -z -s pattern 0 10
write -s z.raw 0 10
write -s nosuch 0 10
write -s dir 0 10
write -b -z 0 512
write -f -c 0 512
write -f -b 0 512
write 0 3G
write -z 0 3G
write -z -n 0 3G
END
}

@test "write -b, write -c: raw has neither VM state nor compression" {
    same_commands <<'END'
write -b 0 512
write -b 1 512
write -c 0 64k
write -c 1 64k
write -c 0 100
END
}

@test "writev" {
    same_commands <<'END'
writev 0 512 512
writev -P 3 -q 0 512
writev -f -C 0 100 200 300
writev -P 3 1M 512
writev -P 333 0 512
writev -z 0 512
writev 0
END
}

@test "aio_write" {
    same_commands <<'END'
aio_write 0 512
aio_write -P 3 0 512 512
aio_write -C 0 512
aio_write -q -f 0 512
aio_write -i 0 512
aio_write -z -u 0 4096
aio_write -z 0 512 512
aio_write -u 0 512
aio_write 1M 512
aio_write -z 1M 512
aio_write -z 0 3G
aio_write -P 256 0 1
aio_write
END
}

@test "a read sees what a write in the background wrote, after aio_flush" {
    same -f raw -c 'aio_write -q -P 9 0 64k' -c aio_flush -c 'read -P 9 0 64k' a.raw
    same -f raw -c 'aio_write -P 9 0 64k' -c close -c length a.raw
}

@test "discard" {
    same_commands <<'END'
discard 0 4k
d 0 100
discard -C 0 4k
discard -q 0 4k
discard 1M 512
discard 0 3G
discard -x 0 1
discard 1 abc
discard abc 1
discard 0
END
}

@test "truncate" {
    same_commands <<'END'
truncate 1M
truncate 5M
t 512k
truncate -m off 2M
truncate -m full 2M
truncate -m falloc 2M
truncate -m metadata 2M
truncate -m foo 2M
truncate -x 3
truncate
truncate -1
t x
truncate 9e
END
    same -f raw -c 'truncate 2M' -c length -c 'read -P 0 1M 1M' -c 'write 1M 1k' a.raw
}

@test "a read-only image refuses all of them" {
    local c
    for c in 'write 0 512' 'writev 0 512' 'aio_write 0 512' 'discard 0 4k' 'truncate 5k' 'write -z 0 4k' \
        'write 0' 'flush' 'read 0 1'; do
        same -r -f raw -c "$c" a.raw
    done
}
