#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The report file of the verify driver: one JSON object per mismatch, each on a line of its own.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    pattern_file raw.img 1048576
    cp raw.img test.img
}

member() {
    python3 -c 'import json, sys; print(eval("o" + sys.argv[2], {"o": [json.loads(l) for l in open(sys.argv[1])]}))' \
        report.json "$1"
}

@test "a flipped bit: every number of the report is right" {
    flip_bit test.img 70000 5
    expect 1 blkproof io --report report.json -c 'read 65536 8192' blkverify:raw.img:test.img
    equal "$(head -n 1 <<<"$err")" "blkverify: read sector_num=128 nb_sectors=16 contents mismatch in sector 136"
    equal "$(wc -l <report.json)" 1
    equal "$(member '[0]["mismatch"]')" contents
    equal "$(member '[0]["offset"]')" 65536
    equal "$(member '[0]["bytes"]')" 8192
    equal "$(member '[0]["first-difference"]')" 70000
    equal "$(member '[0]["sector"]')" 136
    equal "$(member '[0]["runs"]')" "[{'offset': 70000, 'bytes': 1}]"
    equal "$(member '[0]["diagnosis"]')" "one bit flipped"
    local at
    at=$(member '[0]["dump-offset"]')
    equal "$(member '[0]["expected"]')" "$(hex raw.img "$at" 64)"
    equal "$(member '[0]["actual"]')" "$(hex test.img "$at" 64)"
    matches "$err" "diagnosis: one bit flipped: bit 5 of byte 368 of sector 136, at offset 70000" # 136 * 512 + 368
}

@test "one line per mismatch, behind what the file holds" {
    echo '{"kept":1}' >report.json
    flip_bit test.img 0 0
    flip_bit test.img 500000 0
    expect 1 blkproof io --on-mismatch report --report report.json -c 'read 0 64k' -c 'read 0 512' \
        -c 'read 499712 512' blkverify:raw.img:test.img
    equal "$(wc -l <report.json)" 4
    equal "$(member '[0]')" "{'kept': 1}"
    equal "$(member '[2]["bytes"]')" 512
    equal "$(member '[3]["first-difference"]')" 500000
}

@test "a report file that takes nothing is said, and the mismatch all the same" {
    flip_bit test.img 0 0
    expect 1 blkproof io --report /dev/full -c 'read 0 64k' blkverify:raw.img:test.img
    equal "$(head -n 1 <<<"$err")" "blkverify: read sector_num=0 nb_sectors=128 contents mismatch in sector 0"
    contains "$err" "cannot write to the report file: No space left on device"
}

@test "a report file that cannot be opened is an error before anything is read" {
    expect 1 blkproof io --report /none/such -c 'read 0 64k' blkverify:raw.img:test.img
    contains "$err" "cannot open the report file '/none/such': No such file or directory"
    equal "$out" ""
}

@test "killed in the middle: every line is whole" {
    need nbdsh
    local i
    for ((i = 0; i < 1048576; i += 4096)); do flip_bit test.img "$i" 1; done
    serve s --report report.json \
        'json:{"driver":"blkverify","on-mismatch":"report","raw":{"driver":"file","filename":"raw.img"},"test":{"driver":"file","filename":"test.img"}}'
    bg client nbdsh -u "$(uri s)" -c 'while True:
    for i in range(256): h.pread(4096, i * 4096)'
    wait_until "some lines of the report" lines_at_least 50
    kill -KILL "$(pid s)"
    reap s || true
    member '[0]["mismatch"]' # parses every line
    equal "$(tail -c 1 report.json | hex /dev/stdin 0 1)" 0a
}

lines_at_least() {
    [ "$(wc -l <report.json)" -ge "$1" ]
}

@test "scrub=on finds at the end what nobody read" {
    flip_bit test.img 1048575 7
    local opts=driver=blkverify,raw.driver=file,raw.filename=raw.img,test.driver=file,test.filename=test.img
    expect 0 blkproof io --image-opts -c 'read 0 512' "$opts"
    expect 1 blkproof io --image-opts -c 'read 0 512' "$opts,scrub=on"
    contains "$err" "blkverify: read sector_num=0 nb_sectors=2048 contents mismatch in sector 2047"
}

@test "called qemu-io: QEMU's words and nothing else" {
    need qemu-io
    ln -s "$(type -P blkproof)" qemu-io
    flip_bit test.img 70000 5
    expect 1 "$(type -P qemu-io)" -f raw -c 'read 65536 8192' blkverify:raw.img:test.img
    local theirs=$err
    expect 1 ./qemu-io -f raw -c 'read 65536 8192' blkverify:raw.img:test.img
    equal "$err" "$theirs"
    equal "$(tail -n 1 <<<"$err")" "blkverify: read offset=65536 bytes=8192 contents mismatch at offset 70000"
}

@test "what cannot be a report file: an image, a pipe that nobody reads" {
    expect 1 blkproof io --report raw.img -c 'read 0 512' blkverify:raw.img:test.img
    equal "$err" "blkproof: can't open device blkverify:raw.img:test.img: the report file 'raw.img' holds something else: expected a new file, or one of reports"
    cmp raw.img test.img
    mkfifo pipe
    expect 1 timeout 20 blkproof io --report pipe -c 'read 0 512' blkverify:raw.img:test.img
    equal "$err" "blkproof: can't open device blkverify:raw.img:test.img: cannot open the report file 'pipe': it is a pipe that nobody reads"
    flip_bit test.img 70000 5
    expect 1 blkproof io --report report.json -c 'read 65536 8192' blkverify:raw.img:test.img
    expect 1 blkproof io --report report.json -c 'read 65536 8192' blkverify:raw.img:test.img
    equal "$(wc -l <report.json)" 2 # appended to
    expect 1 bash -c 'blkproof io --report >(cat >copy) -c "read 65536 8192" blkverify:raw.img:test.img; s=$?; wait $!; exit $s'
    equal "$(wc -l <copy)" 1 # a pipe that is read
}
