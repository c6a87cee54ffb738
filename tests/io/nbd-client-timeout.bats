#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A server that does not answer any more: every request ends in an error after request-timeout.

load ../lib/common
load ../lib/fake_nbd

each_engine() { # FUNCTION
    local engine
    for engine in uring threads; do
        BLKPROOF_ENGINE=$engine "$1" "$engine"
    done
}

@test "one request is never answered" {
    case_() {
        fake "$1" --on 2:silent
        io 1 "$1" ,request-timeout=300ms 'read 0 512' 'read 512 512'
        contains "$output" "read failed: Connection timed out"
    }
    each_engine case_
}

@test "nothing is answered any more: all that is under way fails" {
    case_() {
        fake "$1" --on 2:freeze
        io 0 "$1" ,request-timeout=300ms 'read 0 512' 'aio_read 0 64k' 'aio_write 64k 64k' 'aio_read 128k 64k' aio_flush
        failed 2 readv # what aio_read says, as qemu-io's; the failure of an aio command is no exit status
        failed 1 aio_write
    }
    each_engine case_
}

@test "the server is stopped: SIGSTOP" {
    case_() {
        fake "$1" --on 2:stop
        io 1 "$1" ,request-timeout=300ms,connect-timeout=300ms 'read 0 512' 'read 512 512' 'read 1024 512'
        failed 2 read
    }
    each_engine case_
}

@test "a server that takes no data: a write larger than the socket's buffers fails in time" {
    case_() {
        fake "$1" --size $((40 << 20)) --on 1:deaf
        io 0 "$1" ,request-timeout=500ms 'aio_read 0 512' 'aio_write 0 32M' aio_flush
        failed 1 aio_write
    }
    each_engine case_
}

@test "the server ends: errors at once, and still an orderly end" {
    case_() {
        fake "$1" --on 2:exit
        io 1 "$1" "" 'read 0 512' 'read 512 512' 'write 0 512'
        failed 1 read
        failed 1 write
    }
    each_engine case_
}

@test "request-timeout=0 is no limit; an answer that comes is waited for" {
    fake s
    io 0 s ,request-timeout=0,connect-timeout=0 'read 0 512'
}
