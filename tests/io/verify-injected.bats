# SPDX-License-Identifier: BSD-2-Clause
# Injected, legal or corruption, end to end: a server with a verifier over fault rules or a write cache, a client.
load ../lib/common
load ../lib/qmp

setup() {
    cd "$BATS_TEST_TMPDIR" || exit
    truncate -s 1M raw.img disk.img
}

# The disk below the verifiers.
below() {
    echo '{"driver":"fault","node-name":"f","file":{"driver":"write-cache","node-name":"wc","file":{"driver":"file","filename":"disk.img"}}}'
}

verified() {
    echo "json:{\"driver\":\"blkverify\",\"test\":$(below),\"raw\":{\"driver\":\"file\",\"filename\":\"raw.img\"}}"
}

client() { # COMMAND...
    local c args=()
    for c; do args+=(-c "$c"); done
    blkproof io -f raw -t writeback "${args[@]}" "$(uri s)"
}

lost_write() { # IMAGE ARG...: what the client sees, and what is said
    qmp_serve s --id d --report r.json "${@:2}" "$1"
    expect 0 client 'write -q -P 1 0 4k' 'flush'
    expect 0 fault s add --id gone --op write --action lost --count 1
    expect 0 client 'write -q -P 2 1k 1k' 'read -q -P 1 0 4k' # it shows what the device shows
    qmp_python s <<'E'
(v,) = c.do("verify-query")
assert (v["mismatches"], v["injected"], v["injected-bytes"], v["legal"]) == (0, 1, 1024, 0), v
x = c.do("verify-sector", offset=1500)
assert (x["offset"], x["bytes"]) == (1024, 512) and x["state"] in ("volatile", "durable"), x
assert len(x["versions"]) == 2, x
e = x["explained"]
assert (e["class"], e["rule"], e["by-node"], e["what"]) == ("injected", "gone", "f", "lost write"), x
assert e["by-operation"] == x["versions"][0]["operation"], x
x = c.do("verify-sector", offset=0)
assert (x["state"], len(x["versions"])) == ("durable", 1) and "explained" not in x, x
assert c.do("verify-sector", offset=1 << 19)["state"] == "unknown"
c.fails("verify-sector", "offset 1048576: the disk has 1048576 bytes", offset=1 << 20)
E
    expect 0 stop s
    contains "$(cat s.err)" "injected in sectors 2 to 3: lost write (node f, rule gone, operation "
    contains "$(cat s.err)" "blkverify: 1 injected, 0 legal after a power cut, 0 corruptions"
    equal "$(jq -r '[.class,.mismatch,.rule,.what,.sector,.sectors]|@csv' r.json)" '"injected","contents","gone","lost write",2,2'
}

@test "a lost write is injected: with a reference" {
    lost_write "$(verified)"
}

@test "a lost write is injected: with an oracle" {
    lost_write "json:$(below)" --oracle book
}

@test "an oracle remembers what was injected when nobody else does" {
    qmp_serve s --id d --oracle book "json:$(below)"
    expect 0 client 'write -q -P 1 0 4k' 'flush'
    expect 0 fault s add --op write --action lost --count 1
    expect 0 client 'write -q -P 2 1k 1k' 'flush' 'read -q -P 1 0 4k'
    expect 0 stop s
    expect 0 blkproof io --oracle book -c 'read -q -P 1 0 4k' disk.img
    contains "$err" "injected in sectors 2 to 3: as injected in an earlier run"
    flip_bit disk.img 1024 0
    expect 1 blkproof io --oracle book -c 'read -q 0 4k' disk.img
}

@test "--on-injected=stop: status 3; corruption beside it: 1" {
    qmp_serve s --id d --oracle book --on-injected stop "json:$(below)"
    expect 0 client 'write -q -P 1 0 4k' 'flush'
    expect 0 fault s add --op write --action lost --count 1
    client 'write -q -P 2 0 1k' 'read -q 0 4k' >/dev/null 2>&1 || true
    status=0
    reap s || status=$?
    equal "$status" 3
    flip_bit disk.img 3000 0
    expect 1 blkproof serve --on-injected stop --on-mismatch report --oracle book --scrub --run true disk.img
    contains "$err" "contents mismatch in sector 5"
}

legal_loss() { # IMAGE ARG...
    qmp_serve s --id d "${@:2}" "$1"
    expect 0 client 'write -q -P 1 0 4k' 'flush'
    # The client stays: one that leaves may flush.
    mkfifo work
    ln -s work client.in
    bg client blkproof io -f raw -t writeback "$(uri s)"
    exec 9>work
    echo "write -P 2 0 2k" >&9
    wait_for_line client.out "1 ops"
    expect 0 fault s power-cut d
    exec 9>&-
    reap client || true
    expect 0 client 'read -q -P 1 0 4k'
    qmp_python s <<'E'
(v,) = c.do("verify-query")
assert (v["mismatches"], v["injected"]) == (0, 0) and v["legal-bytes"] == 2048, v
E
    expect 0 stop s
    contains "$(cat s.err)" "legal in sectors 0 to 3: power cut: it was never flushed (node wc, operation "
}

@test "what a power cut took is legal: with a reference" {
    legal_loss "$(verified)"
}

@test "what a power cut took is legal: with an oracle" {
    legal_loss "json:$(below)" --oracle book
    expect 0 blkproof io --oracle book -c 'read -q -P 1 0 4k' disk.img
}
