# SPDX-License-Identifier: BSD-2-Clause
# Presets, time scales and the newer selectors of rules on a running server, by the verb fault and over QMP.
load ../lib/common
load ../lib/qmp

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 4M disk.img
}

@test "a preset is added, with a parameter and a range, and removed by its tag" {
    qmp_serve s --id d0 -f raw fault::disk.img
    expect 0 fault s add --preset fsyncgate-once --param nth=2 --range 1M+64k
    equal "$out" "preset fsyncgate-once, from operation 1 on"
    expect 1 blkproof io -f raw -c 'write 1M 4k' -c 'write 2M 4k' -c 'write 1M 4k' -c 'write 1M 4k' "$(uri s)"
    equal "$(grep -c '^wrote' <<<"$out")" 3
    expect 0 fault s add --preset flap-good-bad --id f
    equal "$(fault s list --json | jq -c '.[0].rules | map(.id)')" '["fsyncgate-once","f-worsens","f-recovers","f-slow"]'
    expect 0 fault s remove --tag f
    expect 1 fault s remove --tag f
    contains "$err" "has no rule tagged 'f'"
    expect 1 fault s add --preset limp-10x --param speed=3
    contains "$err" "the preset limp-10x has no parameter 'speed'"
    expect 2 fault s add --preset limp-10x --param speed
    contains "$err" "--param=speed: expected NAME=VALUE"
    equal "$(fault s list --json | jq '.[0].rules | length')" 1
}

@test "fault-preset-apply and query-fault-presets" {
    qmp_serve s --id d0 -f raw fault::disk.img
    qmp_python s <<E
listed = {p["name"]: p for p in c.do("query-fault-presets")}
assert listed["limp-100x"]["params"][0] == {"name": "factor", "default": 100, "help": "so many times as long"}
assert listed["fis-sustained"]["verified"] and "Amazon" in listed["fis-sustained"]["source"]
assert c.do("fault-preset-apply", preset="limp-10x", params={"factor": 2.5}, rule={"id": "l", "ranges": "0+4k"},
            **{"time-scale": 0.5}) == {"operation": 1}
rule = c.do("query-faults", device="d0")[0]["rules"][0]
assert (rule["id"], rule["times"], rule["ranges"], rule["time-scale"]) == ("l", 2.5, "0+4k", 0.5), rule
assert c.fails("fault-preset-apply", "there is no preset 'x' ('blkproof fault presets' lists them)", preset="x")
assert c.fails("fault-preset-apply", "Parameter 'rule' has no member 'params': it is a parameter of its own",
               preset="limp-10x", rule={"params": {}})
c.do("fault-preset-apply", preset="silent", replace=True)
assert [r["id"] for r in c.do("query-faults", device="d0")[0]["rules"]] == ["silent"]
c.do("fault-remove", tag="silent")
assert c.do("query-faults", device="d0")[0]["rules"] == []
E
}

@test "a client is told from others by its number" {
    qmp_serve s --id d0 -f raw fault::disk.img
    fault s add --client 2 --read --error EIO
    expect 0 blkproof io -f raw -c 'read -q 0 4k' "$(uri s)"
    expect 1 blkproof io -f raw -c 'read -q 0 4k' "$(uri s)"
    expect 0 blkproof io -f raw -c 'read -q 0 4k' "$(uri s)"
}

@test "serve scales the times of all rules, a node those of its own" {
    qmp_serve s --time-scale 1e-9 --id d0 -f raw fault::disk.img
    truncate -s 1M other.img
    fault s add --read --delay 86400s
    fault s add --write --from 3600s --error EIO
    expect 1 timeout 50 blkproof io -f raw -c 'read -q 0 4k' -c 'write -q 0 4k' "$(uri s)"
    equal "$out" "write failed: Input/output error"
    local f
    for f in 0 -1 x 2000000 ''; do
        expect 2 blkproof serve "--time-scale=$f" -f raw fault::disk.img
        contains "$err" "time-scale: expected a number above 0 and at most 1000000"
        expect 1 blkproof io --image-opts -c 'read 0 512' "driver=fault,time-scale=$f,file.filename=other.img"
        contains "$err" "time-scale: expected a number above 0 and at most 1000000"
    done
    echo '[{"op":"read","action":"delay","delay":"3600s"}]' >slow.json
    expect 0 timeout 50 blkproof io --image-opts -c 'read -q 0 512' driver=fault,time-scale=1e-7,rules=slow.json,file.filename=other.img
}

@test "a rule acts while a file exists" {
    qmp_serve s --id d0 -f raw fault::disk.img
    fault s add --read --while-file "$PWD/broken"
    expect 0 blkproof io -f raw -c 'read -q 0 4k' "$(uri s)"
    touch broken
    expect 1 blkproof io -f raw -c 'read -q 0 4k' "$(uri s)"
    rm broken
    expect 0 blkproof io -f raw -c 'read -q 0 4k' "$(uri s)"
}
