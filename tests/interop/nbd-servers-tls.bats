#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# TLS of the NBD client, with pre-shared keys and with certificates, against nbdkit and qemu-nbd.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    need nbdkit psktool certtool
}

keys() { # keys.psk for alice, in the directory that qemu-nbd wants, too
    mkdir psk
    psktool -u alice -p psk/keys.psk >/dev/null 2>&1
}

certificates() { # an authority, a server called localhost, a client
    mkdir pki
    printf 'cn = test authority\nca\ncert_signing_key\n' >ca.info
    printf 'cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\ntls_www_server\nencryption_key\nsigning_key\n' >server.info
    printf 'cn = client\ntls_www_client\nencryption_key\nsigning_key\n' >client.info
    local who
    for who in ca server client; do
        certtool --generate-privkey --key-type=ecdsa --outfile "pki/$who-key.pem" 2>/dev/null
    done
    certtool --generate-self-signed --load-privkey pki/ca-key.pem --template ca.info --outfile pki/ca-cert.pem 2>/dev/null
    for who in server client; do
        certtool --generate-certificate --load-privkey "pki/$who-key.pem" --load-ca-certificate pki/ca-cert.pem \
            --load-ca-privkey pki/ca-key.pem --template "$who.info" --outfile "pki/$who-cert.pem" 2>/dev/null
    done
}

io() { # STATUS OPTIONS
    expect "$1" timeout 60 blkproof io --image-opts -c 'write -P 1 0 1M' -c 'read -P 1 0 1M' "driver=nbd,$2"
}

@test "pre-shared keys: nbdkit, on both engines" {
    keys
    nbdkit_serve s --tls=require --tls-psk=psk/keys.psk memory 8M
    for engine in uring threads; do
        BLKPROOF_ENGINE=$engine io 0 "path=$(sock s),tls=require,tls-psk-file=psk/keys.psk,tls-username=alice"
        lacks "$output" failed
    done
    expect 0 timeout 60 blkproof io -f raw -c 'read 0 512' "nbds+unix://alice@/?socket=$(sock s)&tls-psk-file=psk/keys.psk"
}

@test "pre-shared keys: qemu-nbd" {
    keys
    truncate -s 8M disk
    qemu_nbd s --object tls-creds-psk,id=t,endpoint=server,dir=$PWD/psk --tls-creds t -f raw disk
    io 0 "path=$(sock s),tls=require,tls-psk-file=psk/keys.psk,tls-username=alice"
    equal "$(hex disk 0 4)" 01010101
}

@test "a wrong key, an unknown user, no TLS: one sentence each" {
    keys
    nbdkit_serve s --tls=require --tls-psk=psk/keys.psk memory 8M
    echo "alice:00112233445566778899aabbccddeeff" >wrong.psk
    io 1 "path=$(sock s),tls=require,tls-psk-file=wrong.psk,tls-username=alice"
    contains "$err" "NBD server '$(sock s)': gnutls_handshake"
    io 1 "path=$(sock s),tls=require,tls-psk-file=psk/keys.psk,tls-username=bob"
    contains "$err" "bob was not found in PSK file"
    io 1 "path=$(sock s)"
    contains "$err" "server requires TLS encryption first"
}

@test "tls=require with a server without TLS fails, tls=allow goes on" {
    keys
    nbdkit_serve s --tls=off memory 8M
    io 1 "path=$(sock s),tls=require,tls-psk-file=psk/keys.psk,tls-username=alice"
    contains "$err" "NBD server '$(sock s)': "
    io 0 "path=$(sock s),tls=allow,tls-psk-file=psk/keys.psk,tls-username=alice"
}

@test "certificates over TCP: the server's name is checked" {
    certificates
    local port
    port=$(perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport')
    bg s nbdkit --foreground -i 127.0.0.1 -p "$port" --tls=require --tls-certificates=pki memory 8M
    wait_until "the server" bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
    io 0 "host=localhost,port=$port,tls=require,tls-certificates=pki"
    lacks "$output" failed
    # the same server by a name that its certificate does not have
    io 1 "host=127.1,port=$port,tls=require,tls-certificates=pki"
    contains "$err" "NBD server '127.1:$port': "
    io 0 "host=127.1,port=$port,tls=require,tls-certificates=pki,tls-verify-peer=off"
}

@test "certificates: a server whose authority we do not know" {
    certificates
    mkdir other
    mv pki other/server-pki
    certificates
    local port
    port=$(perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport')
    bg s nbdkit --foreground -i 127.0.0.1 -p "$port" --tls=require --tls-certificates=other/server-pki memory 8M
    wait_until "the server" bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
    io 1 "host=localhost,port=$port,tls=require,tls-certificates=pki"
    contains "$err" "NBD server 'localhost:$port': "
}
