#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img create, info, map, resize, dd, bench, measure, check: forms and exit codes, by hand.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    pattern_file data.img $((64 * 1024))
    truncate -s 1M a.img
    dd if=data.img of=a.img seek=8 bs=64k conv=notrunc status=none
}

@test "create: a file of that many bytes, and of that many allocated" {
    expect 0 blkproof img create new.img 1.5k
    equal "$output" "Formatting 'new.img', fmt=raw size=1536"
    equal "$(stat -c %s new.img)" 1536
    expect 0 blkproof img create -q -o preallocation=full new.img 1M
    equal "$output" ""
    equal "$(($(stat -c '%b * %B' new.img)))" 1048576 "allocated bytes"
    expect 1 blkproof img create new.img 12Q
    equal "$(wc -l <<<"$err")" 1
    expect 1 blkproof img create -o preallocation=much new.img 1M
    equal "$err" "blkproof: new.img: Parameter 'preallocation' does not accept value 'much': expected off, falloc, full"
    equal "$(stat -c %s new.img)" 1048576 "the old image"
}

@test "create that fails leaves what was there" {
    unshare -rm true 2>/dev/null || skip "no user namespaces here"
    mkdir small
    expect 1 unshare -rm sh -c 'mount -t tmpfs -o size=1m none small && echo old >small/new.img &&
        blkproof img create -q -o preallocation=falloc small/new.img 8M; status=$?; ls -A small >listing
        cat small/new.img >content; exit $status'
    contains "$err" "No space left on device"
    equal "$(cat listing content)" "new.img"$'\n'old
}

@test "info: human and JSON, with the child node" {
    expect 0 blkproof img info a.img
    equal "$out" "image: a.img
file format: raw
virtual size: 1 MiB (1048576 bytes)
disk size: 64 KiB
Child node '/file':
    filename: a.img
    protocol type: file
    file length: 1 MiB (1048576 bytes)
    disk size: 64 KiB"
    expect 0 blkproof img info --output=json a.img
    equal "$(python3 -c '
import json, sys
d = json.load(sys.stdin)
print(d["virtual-size"], d["actual-size"], d["format"], d["filename"], d["dirty-flag"], d["children"][0]["info"]["format"])' <<<"$out")" \
        "1048576 65536 raw a.img False file"
}

@test "info: a name that is no UTF-8 does not break the JSON" {
    local name=$'b\xffd.img'
    cp a.img "$name" 2>/dev/null || skip "this file system refuses the name"
    blkproof img info --output=json "$name" >out.json 2>err.txt || { [ "$(wc -l <err.txt)" = 1 ] && return 0; }
    python3 -m json.tool out.json
}

@test "map: holes and data" {
    expect 0 blkproof img map a.img
    equal "$out" "Offset          Length          Mapped to       File
0x80000         0x10000         0x80000         a.img"
    expect 0 blkproof img map --output=json a.img
    equal "$(python3 -c '
import json, sys
for e in json.load(sys.stdin): print(e["start"], e["length"], e["data"], e["zero"], e["offset"], e["compressed"])' <<<"$out")" \
        "0 524288 False True 0 False
524288 65536 True False 524288 False
589824 458752 False True 589824 False"
}

@test "resize: up, down only if asked twice" {
    expect 0 blkproof img resize -f raw a.img +512k
    equal "$out" "Image resized."
    equal "$(stat -c %s a.img)" 1572864
    expect 1 blkproof img resize -f raw a.img -512
    equal "$(stat -c %s a.img)" 1572864
    expect 0 blkproof img resize -f raw --shrink a.img -512
    equal "$(stat -c %s a.img)" 1572352
    expect 1 blkproof img resize -f raw a.img much
    equal "$(wc -l <<<"$err")" 1
    expect 2 blkproof img resize a.img
}

@test "dd: the blocks that dd(1) copies" {
    expect 0 blkproof img dd bs=4k skip=130 count=5 if=a.img of=new.img
    dd bs=4k skip=130 count=5 if=a.img of=want.img status=none
    cmp want.img new.img
    expect 1 blkproof img dd bs=0 if=a.img of=new.img
    expect 1 blkproof img dd if=a.img
}

@test "bench: several requests in one buffer are no reason for an alarm" {
    pattern_file test.img 1048576
    cp test.img raw.img
    expect 0 blkproof img bench -c 3000 -d 32 blkverify:raw.img:test.img
    equal "$err" ""
    # large ones overlap in the workers of the engine
    expect 0 blkproof img bench -c 400 -d 8 -s 256k blkverify:raw.img:test.img
    equal "$err" ""
    expect 0 blkproof img bench -w -c 500 -d 32 --pattern=7 --flush-interval=40 blkverify:raw.img:test.img
    equal "$err" ""
    cmp raw.img test.img
    equal "$(hex raw.img 0 4)" 07070707
}

@test "bench finds a difference" {
    pattern_file test.img 1048576
    cp test.img raw.img
    flip_bit test.img 70000 2
    expect 1 blkproof img bench -c 256 -d 4 blkverify:raw.img:test.img
    contains "$err" "blkverify: read sector_num=136 nb_sectors=8 contents mismatch in sector 136"
}

@test "convert finds a difference, and leaves nothing" {
    pattern_file test.img 1048576
    cp test.img raw.img
    flip_bit test.img 70000 2
    expect 1 blkproof img convert blkverify:raw.img:test.img new.img
    contains "$err" "contents mismatch in sector 136"
    equal "$(ls -A | grep -E 'new.img|^\.blkproof' || true)" "" "files left"
}

@test "measure, check, and what raw cannot do" {
    expect 0 blkproof img measure a.img
    equal "$out" "required size: 1048576"$'\n'"fully allocated size: 1048576"
    expect 63 blkproof img check a.img
    equal "$err" "blkproof: This image format does not support checks"
    expect 0 blkproof img snapshot -l a.img
    equal "$output" ""
    expect 1 blkproof img commit a.img
    equal "$err" "blkproof: Image does not have a backing file"
}

@test "every subcommand has help, and help names every option of its table once" {
    local c
    for c in amend bench bitmap check commit compare convert create dd info map measure rebase resize snapshot; do
        expect 0 blkproof img "$c" --help
        contains "$out" "Usage: blkproof img $c "
        equal "$(grep -oE '^  -[^ =]+(, --[a-z-]+)?' <<<"$out" | tr -d , | xargs -n 1 | sort | uniq -d)" "" "options of $c twice"
    done
    expect 0 blkproof img --help
    expect 2 blkproof img nonsense
    expect 2 blkproof img
}

@test "the manual page names every option that help does, and no other" {
    local page=$TOP/docs/blkproof-img.1.scd c o
    for c in bench compare convert create dd info map measure resize; do
        expect 0 blkproof img "$c" --help
        while read -r o; do
            grep -qE -- "(^|[^a-z-])$o([^a-z-]|$)" "$page" || fail "$c $o is not in the manual page"
        done < <(grep -oE '^  -[^ =]+' <<<"$out" | tr -d ' ,' | grep -vE -- '--(engine|seed)')
    done
    expect 0 sh -c 'for c in amend bench bitmap check commit compare convert create dd info map measure rebase resize snapshot
        do blkproof img $c --help; done; blkproof img --help'
    for o in $(grep -oE -- '--[a-z][a-z-]+' "$page" | sort -u); do
        contains "$out" " $o"
    done
}
