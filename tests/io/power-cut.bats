# SPDX-License-Identifier: BSD-2-Clause
# Write caches and power cuts on a running server, seen by a client of another make.
load ../lib/common
load ../lib/qmp

setup() {
    cd "$BATS_TEST_TMPDIR"
    need nbdsh
    truncate -s 4M disk.img other.img
}

# client CODE: nbdsh with h connected to the server s, which goes on when the disk drops it.
client() {
    expect 0 nbdsh -u "$(uri s)" -c "$1"
}

# loss FIELD...: of the last report of the server s, its only disk, one line each.
losses() {
    fault s report --json | jq -r ".[0].report.losses[] | \"$1\""
}

report() {
    fault s report --json | jq -c ".[0].report | $1"
}

@test "what was flushed is there, what was not is gone, and that is legal" {
    qmp_serve s --id d0 --power-report cuts.json -f raw write-cache:disk.img
    bg client nbdsh -u "$(uri s)" -c '
import sys
h.pwrite(b"1" * 8192, 0)
h.flush()
h.pwrite(b"2" * 4096, 0)
h.pwrite(b"3" * 512, 10000)
assert h.pread(4096, 0) == b"2" * 4096
print("written", flush=True)
try:
    while True:
        h.pread(512, 0)
except nbd.Error:
    print("dropped")
'
    wait_until "the client" grep -q written client.out
    expect 0 fault s power-cut d0
    matches "$out" '^d0: power cut 1 before operation [0-9]+: 4608 bytes lost legally, 0 illegally$'
    reap client
    contains "$(<client.out)" dropped # nobody gets an answer any more
    equal "$(losses '\(.fate) \(.offset)+\(.bytes) \(.legal) \(.why)')" "lost 0+4096 true it was never flushed
lost 10000+512 true it was never flushed"
    equal "$(jq -c '[."legal-bytes", ."illegal-bytes", .cut]' cuts.json)" "[4608,0,1]"
    client 'assert h.pread(8192, 0) == b"1" * 8192; assert h.pread(512, 10000) == bytes(512)'
    expect 0 fault s report
    contains "$out" "legal   lost        0+4096  operation 3: it was never flushed"
}

@test "a disk that lies about a flush is told so" {
    qmp_serve s --id d0 -f raw --write-cache=flush=lie,fua=lie disk.img
    client 'h.pwrite(b"1" * 512, 0); h.flush(); h.pwrite(b"2" * 512, 512, nbd.CMD_FLAG_FUA); h.pwrite(b"3" * 512, 1024)'
    expect 0 fault s power-cut
    contains "$out" "512 bytes lost legally, 1024 illegally"
    equal "$(losses '\(.offset) \(.legal) \(.flush) \(.fua) \(.why)')" \
        "0 false 2 null the disk lied: a flush covered it
512 false null true the disk lied: it was written with FUA
1024 true null null it was never flushed"
    client 'assert h.pread(1536, 0) == bytes(1536)'
}

@test "a disk begins to lie while it is in use" {
    qmp_serve s --id d0 -f raw --write-cache disk.img
    client 'h.pwrite(b"1" * 512, 0); h.flush()'
    qmp s '{"execute": "blockdev-reopen", "arguments": {"options": [{"node-name": "'"$(fault s report --json |
        jq -r '.[0]."node-name"')"'", "driver": "write-cache", "flush": "lie"}]}}'
    client 'h.pwrite(b"2" * 512, 0); h.flush()'
    expect 0 fault s power-cut
    contains "$out" "0 bytes lost legally, 512 illegally"
    client 'assert h.pread(512, 0) == b"1" * 512'
}

@test "no power until it is switched on; who comes meanwhile is refused, or waits" {
    qmp_serve s --id d0 -f raw write-cache:disk.img
    client 'h.pwrite(b"1" * 512, 0)'
    expect 0 fault s power-cut survivors=all stay-off=on
    expect 1 nbdsh -u "$(uri s)" -c 'h.pread(512, 0)'
    contains "$(fault s report)" "d0: no power"
    expect 1 fault s power-cut
    contains "$err" "has no power already"
    expect 0 fault s power-on
    equal "$out" "1 disk switched on"
    client 'assert h.pread(512, 0) == b"1" * 512'
    expect 0 fault s power-cut d0 stay-off=on mute=on
    bg late nbdsh -u "$(uri s)" -c 'print(h.pread(3, 0))'
    expect 1 blkproof io -f raw -c "read 0 512" "$(uri s)?" # a wrong name: the server lives
    expect 0 fault s power-on d0
    reap late
    equal "$(<late.out)" "bytearray(b'111')"
    expect 1 fault s power-on d0
    contains "$err" "has its power"
}

# Two disks, a client that writes k = 1, 2, ... to a, then to b, each time at the same place.
alternate='
import sys
a, b = h, nbd.NBD()
b.connect_uri(sys.argv[1])
try:
    for k in range(1, 1000000):
        a.pwrite(k.to_bytes(8, "little") * 64, 0)
        b.pwrite(k.to_bytes(8, "little") * 64, 0)
        if k == 200:
            print("going", flush=True)
except nbd.Error:
    pass
'
counter() { # FILE: the last k that is there
    od -An -t u8 -N 8 "$1" | tr -d ' '
}

@test "two disks lose their power between the same two operations" {
    qmp_serve s -f raw --write-cache a=disk.img b=other.img
    bg client nbdsh -u "$(uri s a)" -c "import sys; sys.argv = ['', '$(uri s b)']" -c "$alternate"
    wait_until "the client" grep -q going client.out
    expect 0 fault s power-cut survivors=all stay-off=on
    reap client
    local a b
    a=$(counter disk.img) b=$(counter other.img)
    [ "$a" -ge 200 ]
    [ "$a" = "$b" ] || [ "$a" = $((b + 1)) ] || fail "a has seen $a, b $b"
}

@test "a rule cuts the power of all disks at one request" {
    qmp_serve s -f raw a=fault::write-cache:disk.img b=write-cache:other.img
    expect 0 fault s --disk a add --id bang --write --nth 300 --action power-cut --cut-disks all \
        --cut survivors=all,stay-off=on
    bg client nbdsh -u "$(uri s a)" -c "import sys; sys.argv = ['', '$(uri s b)']" -c "$alternate"
    reap client
    expect 0 fault s report # when what survives is written
    equal "$(counter disk.img) $(counter other.img)" "299 299"
    expect 0 fault s power-on
    expect 0 fault s --disk a set bang --when after --nth 1000
    bg client nbdsh -u "$(uri s a)" -c "import sys; sys.argv = ['', '$(uri s b)']" -c "$alternate"
    reap client
    expect 0 fault s report # when what survives is written
    equal "$(counter disk.img) $(counter other.img)" "700 699" # 300 had matched before
}

@test "a transaction of rules holds between the same two operations, too" {
    qmp_serve s -f raw a=fault::disk.img b=fault::other.img
    bg client nbdsh -u "$(uri s a)" -c "import sys; sys.argv = ['', '$(uri s b)']" -c "$alternate"
    wait_until "the client" grep -q going client.out
    qmp s '{"execute": "fault-transaction", "arguments": {"actions": [
        {"type": "add", "device": "a", "rules": {"op": "write", "action": "error"}},
        {"type": "add", "device": "b", "rules": {"op": "write", "action": "error"}}]}}'
    reap client
    local a b
    a=$(counter disk.img) b=$(counter other.img)
    [ "$a" = "$b" ] || [ "$a" = $((b + 1)) ] || fail "a has seen $a, b $b"
}

@test "the power goes again while the client recovers" {
    qmp_serve s --id d0 -f raw write-cache:disk.img
    client 'h.pwrite(b"1" * 512, 0); h.flush(); h.pwrite(b"2" * 512, 0)'
    expect 0 fault s power-cut
    client 'assert h.pread(512, 0) == b"1" * 512; h.pwrite(b"3" * 512, 512); h.flush(); h.pwrite(b"4" * 512, 0)'
    expect 0 fault s power-cut
    contains "$out" "power cut 2"
    client 'assert h.pread(1024, 0) == b"1" * 512 + b"3" * 512'
}

@test "prefix, and torn at sectors: some writes whole, one in part, none behind it" {
    qmp_serve s --id d0 -f raw write-cache:disk.img
    for seed in 1 2 3 4 5 6; do
        client 'h.zero(64 * 4096, 0); h.flush()
for i in range(64): h.pwrite(bytes([i + 1]) * 4096, i * 4096)'
        expect 0 fault s power-cut survivors=prefix torn=512 seed=$seed
        client '
d = h.pread(64 * 4096, 0)
n = 0
while n < 512 and d[n * 512:(n + 1) * 512] == bytes([n // 8 + 1]) * 512: n += 1
assert d[n * 512:] == bytes(64 * 4096 - n * 512), n
print(n)'
        local sectors=$out
        equal "$(report '[."legal-bytes", ."illegal-bytes"]')" "[$(((512 - sectors) * 512)),0]"
    done
}

@test "copies: never more of them damaged at the same place than was said" {
    qmp_serve s -f raw --write-cache a=disk.img b=other.img
    expect 0 fault s copies pair 1 a b
    nbdsh -u "$(uri s a)" -c 'h.pwrite(b"1" * 4096, 0); h.pwrite(b"1" * 4096, 8192)'
    nbdsh -u "$(uri s b)" -c 'h.pwrite(b"1" * 4096, 0)'
    expect 0 fault s power-cut
    equal "$(jq -c '.[0][0].report | ."spared-bytes"' < <(fault s report --json | jq -c '[.]'))" 0
    equal "$(fault s report b --json | jq '.[0].report."spared-bytes"')" 4096
    equal "$(nbdsh -u "$(uri s a)" -c 'print(h.pread(1, 0), h.pread(1, 8192))')" "bytearray(b'\x00') bytearray(b'\x00')"
    equal "$(nbdsh -u "$(uri s b)" -c 'print(h.pread(1, 0))')" "bytearray(b'1')"
    equal "$(qmp s '{"execute": "query-fault-groups"}' | jq -c '.return[0] | [.name, .faults, .refused, [.members[]."damaged-bytes"]]')" \
        '["pair",1,1,[8192,0]]'
    nbdsh -u "$(uri s a)" -c 'h.pwrite(b"1" * 4096, 0)' # whole again
    equal "$(qmp s '{"execute": "query-fault-groups"}' | jq -c '.return[0].members[0]."damaged-bytes"')" 4096
    expect 0 fault s copies pair 0
    expect 1 fault s copies pair 2 a b
    contains "$err" "fewer faults"
}

@test "what makes no sense is said so" {
    qmp_serve s --id d0 -f raw --write-cache=size=64k disk.img
    expect 1 fault s power-cut survivors=many
    contains "$err" survivors
    expect 1 fault s power-cut none
    contains "$err" "there is no disk 'none'"
    expect 1 fault s power-cut erase-block=5000
    contains "$err" "multiple of 4096"
    stop s
    expect 1 blkproof serve --write-cache=size=a disk.img
    contains "$err" "'size' expects a size"
    expect 1 blkproof serve --write-cache=x disk.img
    contains "$err" "doesn't support the option 'x'"
    expect 1 blkproof serve --power-report=r disk.img
    contains "$err" "no image has one"
    qmp_serve t --id d0 -f raw disk.img
    expect 1 fault t power-cut
    contains "$err" "no disk has a write cache"
}

@test "an orderly end writes everything down, a disk that lies included, and without power too" {
    qmp_serve s --id d0 -f raw --write-cache=flush=lie disk.img
    client 'h.pwrite(b"1" * 512, 0)'
    stop s
    equal "$(head -c 3 disk.img)" 111
    qmp_serve s --id d0 -f raw --write-cache disk.img
    expect 0 fault s power-cut stay-off=on
    stop s
}
