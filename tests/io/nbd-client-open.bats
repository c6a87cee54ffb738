#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Opening an NBD server that is not there, says no, says nothing, or says nonsense: one sentence naming
# the server, status 1, and never a hang. The names themselves are tested in tests/unit/nbd_name.c.

load ../lib/common
load ../lib/fake_nbd

refused() { # OPTIONS PART: one line on stderr, which holds PART
    io 1 s "$1"
    equal "$(wc -l <<<"$err")" 1 "number of lines"
    contains "$err" "$2"
}

@test "nobody listens: the sentence is QEMU's and names the socket" {
    refused "" "Failed to connect to '$(sock s)': No such file or directory"
}

@test "nobody listens on the TCP port" {
    expect 1 timeout 60 blkproof io nbd:127.0.0.1:1
    contains "$err" "Failed to connect to '127.0.0.1:1': Connection refused"
}

@test "an unknown host" {
    expect 1 timeout 60 blkproof io nbd://no-such-host.invalid
    contains "$err" "Failed to connect to 'no-such-host.invalid:10809': "
}

@test "a path that is no socket" {
    touch "$(sock s)"
    refused "" "Failed to connect to '$(sock s)': Connection refused"
}

@test "a socket path longer than the system takes" {
    expect 1 timeout 60 blkproof io "nbd:unix:/$(printf 'x%.0s' {1..200})"
    contains "$err" "socket name too long"
}

@test "a server that never says a word" {
    fake s --handshake silent
    refused ,connect-timeout=300ms "NBD server '$(sock s)': no answer within connect-timeout"
}

@test "a server that greets and never answers" {
    fake s --handshake mute
    refused ,connect-timeout=300ms "NBD server '$(sock s)': no answer within connect-timeout"
}

@test "a stopped server" {
    fake s
    kill -STOP "$(pid s)"
    refused ,connect-timeout=300ms "NBD server '$(sock s)': no answer within connect-timeout"
}

@test "a server that closes at once, or in the middle of the handshake, or talks another protocol" {
    fake s --handshake close,cut,garbage
    refused "" "NBD server '$(sock s)': recv: server disconnected unexpectedly"
    refused "" "NBD server '$(sock s)': recv: server disconnected unexpectedly"
    refused "" "NBD server '$(sock s)': server did not send expected NBD magic"
}

@test "an export that is not there" {
    fake s --handshake refuse
    refused ,export=disk7 "NBD server '$(sock s)': server has no export named 'disk7'"
}

@test "sizes that cannot be" {
    fake s --size 9223372036854775808,18446744073709551615
    refused "" "9223372036854775808 bytes"
    refused "" "18446744073709551615 bytes"
}

@test "a size that is no multiple of the server's own minimum block size" {
    fake s --size 1000000 --blocks 4096:4096:65536
    refused "" "1000000 bytes, is not a multiple of its minimum block size 4096"
}

@test "a read-only export opens with -r only" {
    fake s --flags ro+flush
    refused "" "the export '' is read-only"
    expect 0 timeout 60 blkproof io -r -f raw -c 'read 0 512' "nbd:unix:$(sock s)"
}

@test "open-timeout: attempts go on until the server is ready" {
    fake s --handshake close,refuse,garbage,ok
    io 0 s ,open-timeout=30 'read 0 512'
    equal "$(requests s | head -n 1)" "4 read 0 512"
}

@test "open-timeout: attempts end" {
    fake s --handshake silent
    refused ,open-timeout=400ms,connect-timeout=100ms "no answer within connect-timeout"
}

@test "options that contradict each other, or name nothing" {
    local base=driver=nbd
    bad() {
        expect 1 timeout 60 blkproof io --image-opts "$1"
        contains "$err" "$2"
    }
    bad $base "no server given"
    bad $base,path=/x,host=h "path and host may not be used at the same time"
    bad $base,path=/x,server.path=/x "may not be used at the same time"
    bad $base,server.type=unix,server.host=h "may not be used at the same time"
    bad $base,server.type=unix "the path of the server is missing"
    bad $base,server.type=inet,server.port=1 "the host of the server is missing"
    bad $base,server.type=vsock,server.host=1 "server.type 'vsock' is unknown"
    bad $base,host=h,port=70000 "port '70000' is not a number from 1 to 65535"
    bad $base,path=/x,tls-psk-file=/y "tls-psk-file needs tls=require"
    bad $base,path=/x,tls=require,tls-psk-file=/nope/y "tls-psk-file '/nope/y': No such file or directory"
    bad $base,path=/x,tls=maybe "does not accept value 'maybe'"
    bad $base,path=/x,request-timeout=soon "expects a time"
    bad $base,path=/x,nonsense=1 "nonsense"
}
