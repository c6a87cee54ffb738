#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Options of the program, opening and closing, asking, and the odd commands: side by side with qemu-io.

load ../lib/common
load ../lib/qemu_io

setup() {
    setup_peers
}

@test "length, info, alloc, map" {
    same_commands <<'END'
length
l
length 1
info
i 1
alloc 0
a 0 1M
alloc 1
alloc 0 0
alloc 0 2M
alloc 1M
alloc 1M 1024
alloc x
alloc 0 x
map
map 0
END
    same -f raw -c length -c map -c 'alloc 0' -c 'read 0 1' z.raw
}

@test "sizes are said as qemu-io says them" {
    local n
    for n in 512 1024 1536 2048 1048064 1049088 1073741312 1073741824 4398046511104; do
        same -f raw -c "truncate $n" -c length a.raw
    done
}

@test "commands that are none, or need a file" {
    local c
    for c in foo scrub 'help scrub' '' ' ' 'read 0 512' length map close flush 'help foo' 'help a b' help 'help quit' 'help map' \
        'help sleep' 'help length' quit; do
        same -c "$c"
    done
}

@test "sleep, sigraise, abort" {
    same_commands <<'END'
sleep 1
sleep
sleep x
sleep 1.5
sigraise
sigraise x
sigraise 0
sigraise 66
sigraise 1k
sigraise 9999999999999
sigraise 15
sigraise 9
END
}

@test "what was printed before a signal is not lost" {
    same -f raw -c length -c 'sigraise 9' a.raw
}

@test "breakpoints without blkdebug" {
    same_commands <<'END'
break
break read_aio A
break foo A
remove_break
remove_break A
resume A
END
}

@test "program options" {
    same -f raw nosuch
    same -f foo a.raw
    same -t foo a.raw
    same -d foo a.raw
    same -i foo a.raw
    same --image-opts -f raw a.raw
    same --object foo a.raw
    same -T foo -f raw -c length a.raw
    same -r -C -f raw a.raw
    same -C -f raw -c length a.raw
    same -k -f raw a.raw
    same -n -k -f raw -c 'read 0 4096' a.raw
    same -f raw -U a.raw
    same -f raw -r -U -c length a.raw
}

@test "cache modes and misaligned buffers, sizes that O_DIRECT does not take" {
    local t
    for t in writethrough writeback none directsync unsafe off; do
        same -t "$t" -f raw -c 'read 1 100' -c 'write 1 5' -c 'write 4000 200' -c flush a.raw
    done
    same -n -m -f raw -c 'read 1 100' -c 'write 1 5' -c 'write 0 8k' -c 'readv 512 512 1024' a.raw
}

@test "a guessed format: QEMU's three lines" {
    same -c length a.raw
    same -r -c length a.raw
    same -c 'write 0 512' -c 'read 0 512' a.raw
    same -c 'write 0 500' a.raw
}

@test "--image-opts and json:" {
    same --image-opts -c length driver=raw,file.filename=a.raw
    same --image-opts -c length driver=foo,file.filename=a.raw
    same --image-opts -c length driver=raw,file.driver=foo,file.filename=a.raw
    same -c length 'json:{"driver":"raw","file":{"driver":"file","filename":"a.raw"}}'
    same -c info 'json:{"driver":"file","filename":"a.raw"}'
    same -c length 'json:{"driver":"raw"}'
    same -c length 'json:{"driver":"raw","file":{"driver":"file","filename":"nosuch"}}'
    same -c 'write 0 8k' -c 'read 8191 2' -c map \
        'json:{"driver":"raw","offset":4096,"size":8192,"file":{"driver":"file","filename":"a.raw"}}'
}

@test "open" {
    same -c open
    same -c 'open -r'
    same -c 'open a b'
    same -c 'open a.raw' -c 'read 0 512'
    same -c 'open -r a.raw' -c 'read 0 512' -c 'write 0 512'
    same -c 'open -o driver=raw a.raw' -c 'read 0 512'
    same -c 'open -o driver=raw,file.filename=a.raw' -c length
    same -c 'open -o driver=foo a.raw'
    same -c 'open -o foo=bar,driver=raw a.raw'
    same -c 'open nosuch' -c 'read 0 512'
    same -c 'open -t foo a.raw' -c 'read 0 512'
    same -c 'open -d foo a.raw'
    same -c 'open -i foo a.raw'
    same -c 'open -f a.raw'
    same -c 'open -o driver=raw -U a.raw'
    same -c 'open -o driver=raw -U -r a.raw' -c length
    same -c 'open -o driver=raw,force-share=off -U -r a.raw'
    same -f raw -c 'open a.raw' a.raw
    same --image-opts -c 'open -o foo=bar a.raw'
    same --image-opts -c 'open driver=raw,file.filename=a.raw' -c length
    same --image-opts -c 'open -r'
}

@test "close, quit, and errors that do not end the run" {
    same -f raw -c close -c 'read 0 1' -c 'open -o driver=raw a.raw' -c 'read 0 1' a.raw
    same -f raw -c quit -c 'read 0 1' a.raw
    same -f raw -c 'read 0' -c 'read 0 512' a.raw
    same -f raw -c 'aio_read 1M 512' -c length -c quit a.raw
    same -f raw -c 'aio_write -z 2M 512' -c length -c 'read -q 0 512' a.raw
}

@test "reopen" {
    same_commands <<'END'
reopen
reopen -r
reopen -w
reopen -r -w
reopen -r -r
reopen -c foo
reopen -c writeback
reopen -o foo=bar
reopen -x
reopen a
reopen -o read-only=on -r
reopen -c none -o cache.direct=on
END
    same -f raw -c 'reopen -r' -c 'write 0 1' -c 'reopen -w' -c 'write 0 1' a.raw
    same -f raw -r -c 'reopen -w' -c 'write 0 1' a.raw
    same -f raw -c 'reopen -c none' -c 'write 1 5' -c 'reopen -c directsync' -c 'write 1 5' -c 'reopen -c unsafe' \
        -c 'write 1 5' a.raw
}

@test "commands from a pipe: the prompt, the end, lines that are too long" {
    printf 'read 0 512\nlength\n' >"$BATS_TEST_TMPDIR/stdin"
    same -f raw a.raw
    : >"$BATS_TEST_TMPDIR/stdin"
    same -f raw a.raw
    printf 'quit\nlength\n' >"$BATS_TEST_TMPDIR/stdin"
    same -f raw a.raw
    printf 'foo\n\n# x\n length\nread  0   512\nclose\nlength' >"$BATS_TEST_TMPDIR/stdin"
    same -f raw a.raw
    { printf 'read %01100d 3\n' 1 && echo length; } >"$BATS_TEST_TMPDIR/stdin"
    same -f raw a.raw
}

@test "blkverify: the byte form, nothing after it, exit 1" {
    same -f raw -c 'read 512 512' -c 'read 0 512' -c length blkverify:a.raw:h.raw
    same -f raw -c 'read 0 4k' -c length blkverify:a.raw:h.raw
    same -f raw -c 'readv 512 512' -c 'readv -q 0 512 512' blkverify:a.raw:h.raw
    same -c 'open -o driver=raw,file.driver=blkverify,file.raw.filename=h.raw a.raw' -c 'read 1k 512' -c 'read 0 512'
    same -c 'read 0 512' blkverify:h.raw
    same -c 'read 0 512' blkverify::h.raw
}
