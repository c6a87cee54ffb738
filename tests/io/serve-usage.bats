# SPDX-License-Identifier: BSD-2-Clause
# serve: wrong usage gives one sentence and status 2, things that are not as they should be give
# one sentence and status 1.
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M disk.img
}

wrong() { # SENTENCE ARG...
    local sentence=$1
    shift
    expect 2 blkproof serve "$@"
    equal "$err" "blkproof: $sentence (see 'blkproof serve --help')"
    equal "$out" ""
}

refused() { # SENTENCE ARG...
    local sentence=$1
    shift
    expect 1 blkproof serve "$@"
    equal "$err" "blkproof: $sentence"
    equal "$out" ""
}

@test "wrong usage" {
    wrong "nothing to serve: IMAGE is missing"
    wrong "several images need export names: NAME=disk.img" disk.img disk.img
    wrong "several images need export names: NAME=disk.img" a=disk.img disk.img
    wrong "--export=x: no image follows" disk.img --export x
    wrong "--once and --run: one of them says when the server ends" --once --run true disk.img
    wrong "--max-clients=0: expected a number from 1 to 65536" --max-clients=0 disk.img
    wrong "--max-clients=many: expected a number from 1 to 65536" --max-clients=many disk.img
    wrong "--handshake-timeout=soon: expected a time like 10s or 500ms" --handshake-timeout=soon disk.img
    wrong "--spin=1s: expected a time up to 1ms, like 20us" --spin=1s disk.img
    wrong "--cache=x: expected writeback, writethrough, none, directsync or unsafe" -t x disk.img
    wrong "--discard=x: expected unmap or ignore" --discard=x disk.img
    wrong "--tls=x: expected off, on or require" --tls=x disk.img
    wrong "--tls needs --tls-certificates=DIR or --tls-psk=FILE" --tls=on disk.img
    wrong "TLS keys are of no use without --tls=on or --tls=require" --tls-psk=x disk.img
    wrong "--tls-verify-peer needs --tls-certificates=DIR" --tls=on --tls-psk=x --tls-verify-peer disk.img
    expect 2 blkproof serve --no-such-option disk.img
}

@test "addresses that cannot be" {
    refused "listen on 'carrier:pigeon': expected unix:PATH or tcp:HOST:PORT" --nbd carrier:pigeon -f raw disk.img
    refused "listen on 'tcp:127.0.0.1:65536': the port is a number from 0 to 65535" --nbd tcp:127.0.0.1:65536 -f raw disk.img
    refused "listen on 'tcp:127.0.0.1:': the port is a number from 0 to 65535" --nbd tcp:127.0.0.1: -f raw disk.img
    refused "listen on 'tcp:127.0.0.1:1x': the port is a number from 0 to 65535" --nbd tcp:127.0.0.1:1x -f raw disk.img
    refused "listen on 'tcp:::1:10809': put an IPv6 address in brackets" --nbd tcp:::1:10809 -f raw disk.img
    refused "listen on 'tcp:[::1': expected tcp:[ADDRESS]:PORT" --nbd 'tcp:[::1' -f raw disk.img
    refused "listen on 'unix:': the path of a socket has 1 to 107 bytes" --nbd unix: -f raw disk.img
    refused "listen on 'unix:$PWD/no/such/s': No such file or directory" --nbd "unix:$PWD/no/such/s" -f raw disk.img
    refused "listen on 'unix:disk.img': Address already in use" --nbd unix:disk.img -f raw disk.img
    equal "$(stat -c %s disk.img)" 1048576
}

@test "names of exports are UTF-8" {
    expect 1 blkproof serve --json --export $'a\xff' --run true -f raw disk.img
    equal "$output" $'blkproof: export \'a\xff\': its name or description is not UTF-8, as NBD wants it'
    expect 1 blkproof serve --description $'\xc3' --run true -f raw x=disk.img
    equal "$output" "blkproof: export 'x': its name or description is not UTF-8, as NBD wants it"
    expect 0 blkproof serve --json --export 'größe' --run true -f raw disk.img
    contains "$out" '"name":"größe"'
}

@test "images that cannot be" {
    expect 1 blkproof serve --nbd "unix:$PWD/s" missing.img
    equal "$(wc -l <<<"$err")" 1
    contains "$err" "missing.img"
    contains "$err" "No such file or directory"
    [ ! -e s ]
    refused "two exports have the name 'a'" --nbd "unix:$PWD/s" -f raw --read-only a=disk.img a=disk.img
    [ ! -e s ]
}

@test "keys that cannot be" {
    refused "TLS keys: cannot read 'missing.psk': No such file or directory" --tls=on --tls-psk=missing.psk -f raw disk.img
    mkdir certs
    refused "TLS certificates: cannot read 'certs/server-cert.pem': No such file or directory" --tls=on --tls-certificates=certs -f raw disk.img
    echo rubbish >certs/server-cert.pem
    echo rubbish >certs/server-key.pem
    expect 1 blkproof serve --tls=on --tls-certificates=certs -f raw disk.img
    matches "$err" "^blkproof: TLS certificates: 'certs/server-cert.pem' with 'certs/server-key.pem': "
}

@test "a pid file that cannot be written" {
    refused "write the pid file 'no/such/pid': No such file or directory" --nbd "unix:$PWD/s" --pid-file no/such/pid -f raw disk.img
    [ ! -e s ]
}

@test "--help names every option" {
    expect 0 blkproof serve --help
    for o in nbd export id qmp format image-opts read-only cache discard description max-clients handshake-timeout spin tls \
        tls-certificates tls-psk tls-verify-peer run once report scrub progress pid-file json quiet engine seed help version; do
        contains "$out" "--$o"
    done
}

@test "the manual page and --help name the same options" {
    expect 0 blkproof serve --help
    equal "$(grep -oE -- '--[a-z]+(-[a-z]+)*' <<<"$out" | sort -u | grep -v '^--help$\|^--version$')" \
        "$(grep -E '^\*-' "$TOP/docs/blkproof-serve.1.scd" | grep -oE -- '--[a-z]+(-[a-z]+)*' | sort -u | grep -v '^--help$\|^--version$')"
}
