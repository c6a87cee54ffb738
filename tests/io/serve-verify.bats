# SPDX-License-Identifier: BSD-2-Clause
# serve: a verified device: clean runs, mismatches, reports, scrubs, exit status.
load ../lib/common

setup() {
    need nbdsh
    cd "$BATS_TEST_TMPDIR"
    pattern_file raw.img 1048576
    cp raw.img test.img
}

device() { # MODE
    echo "json:{\"driver\":\"blkverify\",\"on-mismatch\":\"$1\",\"raw\":{\"driver\":\"file\",\"filename\":\"raw.img\"},\"test\":{\"driver\":\"file\",\"filename\":\"test.img\"}}"
}

@test "identical devices: exit status 0 and silence" {
    expect 0 blkproof serve --run 'nbdcopy "$uri" null:' blkverify:raw.img:test.img
    equal "$err" ""
}

@test "on-mismatch=stop: the client gets an error, the server ends with status 1" {
    flip_bit test.img 70000 3 # sector 136
    serve s "$(device stop)"
    expect 1 nbdsh -u "$(uri s)" -c 'h.pread(65536, 65536)'
    status=0
    reap s || status=$?
    equal "$status" 1
    equal "$(head -n 1 s.err)" "blkverify: read sector_num=128 nb_sectors=128 contents mismatch in sector 136"
    contains "$(cat s.err)" "bit"
}

@test "on-mismatch=error: the client gets an error and goes on, the status is 1" {
    flip_bit test.img 70000 3
    serve s "$(device error)"
    nbdsh -u "$(uri s)" -c '
try:
    h.pread(65536, 65536)
    raise SystemExit("no error")
except nbd.Error as e:
    assert e.errno == "EIO", e.errno
h.pread(65536, 0)
h.pwrite(b"x" * 512, 69632 + 512 * 0)
h.pread(512, 69632)'
    expect 1 stop s
}

@test "on-mismatch=report: the client sees the data of the device under test, the status is 1" {
    flip_bit test.img 70000 3
    expect 1 blkproof serve --report r.json --run 'nbdcopy "$uri" copy.img; echo $?' "$(device report)"
    equal "$out" 0
    cmp copy.img test.img
    equal "$(wc -l <r.json)" 1
    expect 0 jq -e . r.json
}

@test "--scrub finds what no client read" {
    flip_bit test.img 999999 0 # sector 1953
    expect 1 blkproof serve --scrub --run true "$(device report)"
    contains "$err" "contents mismatch in sector 1953"
    flip_bit test.img 999999 0
    expect 0 blkproof serve --scrub --progress --run true "$(device report)"
    equal "$err" ""
    contains "$out" "(100.00/100%)"
}

@test "--scrub and --report need something to verify" {
    expect 1 blkproof serve --scrub --run true -f raw raw.img
    equal "$err" "blkproof: --scrub needs a blkverify device: no image has one"
    expect 1 blkproof serve --report r.json --run true -f raw raw.img
    equal "$err" "blkproof: --report needs a blkverify device: no image has one"
}

@test "on-mismatch=pause holds nobody at the end" {
    flip_bit test.img 70000 3
    serve s "$(device pause)"
    bg client nbdsh -u "$(uri s)" -c 'h.pread(65536, 65536)'
    wait_for_line s.err "contents mismatch"
    expect 1 stop s
}
