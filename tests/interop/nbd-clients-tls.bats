# SPDX-License-Identifier: BSD-2-Clause
# TLS of our server with certificates and keys made here, under libnbd's, QEMU's and nbdkit's clients.
load ../lib/common

setup() {
    need certtool psktool nbdinfo nbdcopy qemu-img
    cd "$BATS_TEST_TMPDIR"
    pattern_file disk.img 4194304
}

# certificates DIR...: a CA in ca/, and in each DIR ca-cert.pem with a server's or client's pair.
certificates() {
    local d kind
    mkdir -p ca
    certtool --generate-privkey --ecc --outfile ca/key.pem 2>>certtool.log
    printf 'cn = "test CA"\nca\ncert_signing_key\n' >ca/info
    certtool --generate-self-signed --load-privkey ca/key.pem --template ca/info --outfile ca/cert.pem 2>>certtool.log
    for d; do
        kind=${d%%-*}
        mkdir -p "$d"
        cp ca/cert.pem "$d/ca-cert.pem"
        certtool --generate-privkey --ecc --outfile "$d/$kind-key.pem" 2>>certtool.log
        printf 'organization = "test"\ncn = "localhost"\ndns_name = "localhost"\nip_address = "127.0.0.1"\ntls_www_%s\nencryption_key\nsigning_key\n' \
            "$kind" >"$d/info"
        certtool --generate-certificate --load-ca-certificate ca/cert.pem --load-ca-privkey ca/key.pem \
            --load-privkey "$d/$kind-key.pem" --template "$d/info" --outfile "$d/$kind-cert.pem" 2>>certtool.log
    done
}

# tls_uri NAME PARAMETERS
tls_uri() {
    echo "nbds+unix://localhost/?socket=$(sock "$1")&$2"
}

@test "certificates: libnbd and QEMU read and write, plain text is refused" {
    certificates server client
    serve s --tls=require --tls-certificates server -f raw disk.img
    u=$(tls_uri s "tls-certificates=$PWD/client&tls-verify-peer=false")
    expect 0 nbdinfo --json "$u"
    matches "$(jq -c '[.TLS, .structured]' <<<"$out")" 'true'
    expect 0 nbdcopy "$u" out.img
    cmp out.img disk.img
    pattern_file in.img 4194304 5
    expect 0 nbdcopy --connections=4 in.img "$u"
    cmp in.img disk.img
    expect 1 nbdinfo "$(uri s)"
    contains "$err" "Operation not supported for the default export" # what it makes of TLS_REQD
    expect 0 qemu-img compare --object tls-creds-x509,id=t,dir="$PWD/client",endpoint=client,verify-peer=no --image-opts \
        "driver=nbd,server.type=unix,server.path=$(sock s),tls-creds=t" driver=raw,file.filename=disk.img
    expect 0 stop s
}

@test "over TCP the server's name is verified" {
    certificates server client
    bg s blkproof serve --nbd tcp:127.0.0.1:0 --tls=require --tls-certificates "$PWD/server" --json -f raw disk.img
    wait_for_line s.out ready
    port=$(jq -r '.exports[0].uri[0]' s.out | sed -E 's,.*:([0-9]+)/.*,\1,')
    expect 0 nbdinfo --size "nbds://localhost:$port/?tls-certificates=$PWD/client"
    equal "$out" 4194304
    mkdir strangers
    (cd strangers && certificates client)
    expect 1 nbdinfo --size "nbds://localhost:$port/?tls-certificates=$PWD/strangers/client"
}

@test "--tls=on takes both; what follows STARTTLS is encrypted" {
    certificates server client
    serve s --tls=on --tls-certificates server -f raw disk.img
    expect 0 nbdcopy "$(uri s)" plain.img
    cmp plain.img disk.img
    expect 0 nbdcopy "$(tls_uri s "tls-certificates=$PWD/client&tls-verify-peer=false")" tls.img
    cmp tls.img disk.img
}

@test "--tls-verify-peer wants a certificate of our CA" {
    certificates server client
    mkdir none strangers
    cp ca/cert.pem none/ca-cert.pem
    (cd strangers && certificates client)
    serve s --tls=require --tls-certificates server --tls-verify-peer -f raw disk.img
    expect 0 nbdinfo --size "$(tls_uri s "tls-certificates=$PWD/client&tls-verify-peer=false")"
    expect 1 nbdinfo --size "$(tls_uri s "tls-certificates=$PWD/none&tls-verify-peer=false")"
    expect 1 nbdinfo --size "$(tls_uri s "tls-certificates=$PWD/strangers/client&tls-verify-peer=false")"
    contains "$(cat s.err)" "TLS handshake with a client failed"
    expect 0 nbdinfo --size "$(tls_uri s "tls-certificates=$PWD/client&tls-verify-peer=false")"
}

@test "pre-shared keys: the right one, a wrong one, none" {
    psktool -u alice -p keys.psk >psktool.log
    sed 's/:.*/:00112233445566778899aabbccddeeff/' keys.psk >wrong.psk
    serve s --tls=require --tls-psk keys.psk -f raw disk.img
    expect 0 nbdcopy "nbds+unix://alice@/?socket=$(sock s)&tls-psk-file=$PWD/keys.psk" out.img
    cmp out.img disk.img
    expect 1 nbdinfo "nbds+unix://alice@/?socket=$(sock s)&tls-psk-file=$PWD/wrong.psk"
    expect 1 nbdinfo "$(uri s)"
    mkdir qemu
    cp keys.psk qemu/keys.psk
    expect 0 qemu-img compare --object tls-creds-psk,id=t,dir="$PWD/qemu",endpoint=client,username=alice --image-opts \
        "driver=nbd,server.type=unix,server.path=$(sock s),tls-creds=t" driver=raw,file.filename=disk.img
}

@test "nbdkit's nbd plugin over TLS" {
    need nbdkit
    psktool -u alice -p keys.psk >psktool.log
    serve s --tls=require --tls-psk keys.psk -f raw disk.img
    nbdkit_serve k nbd socket="$(sock s)" tls=require tls-psk="$PWD/keys.psk" tls-username=alice
    expect 0 nbdcopy "$(uri k)" out.img
    cmp out.img disk.img
}

@test "many requests in flight over TLS, and a fio run" {
    need fio
    psktool -u alice -p keys.psk >psktool.log
    serve s --tls=require --tls-psk keys.psk -f raw disk.img
    nbdkit_serve k nbd socket="$(sock s)" tls=require tls-psk="$PWD/keys.psk" tls-username=alice
    expect 0 fio --name=f --ioengine=nbd --uri="$(uri k)" --size=4M --rw=randwrite --bsrange=512-256k --iodepth=32 \
        --verify=crc32c --randseed=1 --loops=3
    contains "$out" "err= 0"
    expect 0 stop s
}

@test "--run gives a URI that works over TLS" {
    certificates server client
    cp client/client-*.pem server/ # $uri names the server's directory
    expect 0 blkproof serve --tls=require --tls-certificates "$PWD/server" --nbd tcp:localhost:0 \
        --run 'nbdinfo --size "$uri"' -f raw disk.img
    equal "$out" 4194304
}

@test "a client that begins TLS and stalls is dropped" {
    need python3
    psktool -u alice -p keys.psk >psktool.log
    serve s --tls=require --tls-psk keys.psk --handshake-timeout=100ms -f raw disk.img
    python3 -c "
import socket, struct
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect('$(sock s)')
s.recv(18, socket.MSG_WAITALL)
s.send(struct.pack('>I', 3) + b'IHAVEOPT' + struct.pack('>II', 5, 0))
assert s.recv(20, socket.MSG_WAITALL)[12:16] == b'\0\0\0\1'
s.send(b'\x16\x03\x01')
while s.recv(1000): pass"
    expect 0 nbdinfo --size "nbds+unix://alice@/?socket=$(sock s)&tls-psk-file=$PWD/keys.psk"
}

@test "plain text behind STARTTLS ends the connection" {
    need python3
    psktool -u alice -p keys.psk >psktool.log
    serve s --tls=on --tls-psk keys.psk -f raw disk.img
    python3 -c "
import socket, struct
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect('$(sock s)')
s.recv(18, socket.MSG_WAITALL)
s.send(struct.pack('>I', 3) + b'IHAVEOPT' + struct.pack('>II', 5, 0) + b'IHAVEOPT' + struct.pack('>II', 3, 0))
assert s.recv(1000) == b''"
}
