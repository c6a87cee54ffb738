#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# --on-mismatch and --report of blkproof io, and what a stand-in says.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 64k raw.img test.img
    printf 'x' | dd of=raw.img bs=1 seek=5000 conv=notrunc status=none # sector 9
    first='blkverify: read sector_num=8 nb_sectors=8 contents mismatch in sector 9'
}

@test "stop: nothing more runs, what was printed before is there, status 1" {
    expect 1 blkproof io -f raw -c length -c 'read 4k 4k' -c length blkverify:raw.img:test.img
    equal "$out" "64 KiB"
    equal "$(head -n 1 <<<"$err")" "$first"
}

@test "error: the command fails, the next ones run" {
    expect 1 blkproof io -f raw --on-mismatch=error -c 'read 4k 4k' -c 'read -q 0 4k' -c length blkverify:raw.img:test.img
    equal "$out" $'read failed: Input/output error\n64 KiB'
    equal "$(head -n 1 <<<"$err")" "$first"
}

@test "report: the command gets the test device's data, the status is 1 in the end" {
    expect 1 blkproof io -f raw --on-mismatch=report -c 'read -q -P 0 4k 4k' -c length blkverify:raw.img:test.img
    equal "$out" "64 KiB"
    equal "$(head -n 1 <<<"$err")" "$first"
}

@test "a clean run under the same settings is a success" {
    expect 0 blkproof io -f raw --on-mismatch=report -c 'read -q -P 0 0 4k' blkverify:raw.img:test.img
    equal "$out$err" ""
}

@test "the settings reach a verifier wherever it stands, and one that says otherwise keeps its own" {
    local image='{"driver":"blkverify","raw":{"driver":"file","filename":"raw.img"},"test":{"driver":"file","filename":"test.img"}'
    expect 1 blkproof io --on-mismatch=report -c 'read -q 4k 4k' -c length \
        'json:{"driver":"raw","offset":0,"file":'"$image"'}}'
    equal "$out" "64 KiB"
    expect 1 blkproof io --on-mismatch=report -c 'read -q 4k 4k' -c length "json:$image,\"on-mismatch\":\"stop\"}"
    equal "$out" ""
    expect 1 blkproof io --image-opts --on-mismatch=report -c 'read -q 4k 4k' -c length \
        driver=blkverify,raw.driver=file,raw.filename=raw.img,test.driver=file,test.filename=test.img
    equal "$out" "64 KiB"
    expect 1 blkproof io --on-mismatch=report -c 'open -o driver=raw blkverify:raw.img:test.img' -c 'read -q 4k 4k' -c length
    equal "$out" "64 KiB"
}

@test "--report: one JSON object per mismatch, complete although the program ends at once" {
    expect 1 blkproof io -f raw --report report.json -c 'read 4k 4k' blkverify:raw.img:test.img
    equal "$(wc -l <report.json)" 1
    python3 -c '
import json, sys
r = json.loads(open("report.json").read())
assert 5000 in [v for v in r.values() if isinstance(v, int)] or "5000" in json.dumps(r), r'
}

@test "as qemu-io: the byte form, nothing behind it" {
    ln -s "$(command -v blkproof)" qemu-io
    expect 1 ./qemu-io -f raw -c 'read 4k 4k' blkverify:raw.img:test.img
    lacks "$err" "diagnosis"
    equal "$(tail -n 1 <<<"$err")" "blkverify: read offset=4096 bytes=4096 contents mismatch at offset 5000"
}

@test "a request in the background stops the program as well" {
    expect 1 blkproof io -f raw -c 'aio_read 4k 4k' -c aio_flush -c length blkverify:raw.img:test.img
    equal "$out" ""
    equal "$(head -n 1 <<<"$err")" "$first"
}
