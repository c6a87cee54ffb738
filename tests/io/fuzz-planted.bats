#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Every oracle of `blkproof fuzz run` finds the bug that is planted for it (tests/planted), nothing else finds it,
# and the minimiser names the field behind it.

load ../lib/common

setup() {
    need sqlite3
    cd "$BATS_TEST_TMPDIR"
    bin=$(dirname "$(type -P blkproof)")/tests
    [ -x "$bin/planted" ] || skip "tests are not built beside $(type -P blkproof)"
    commands planted
}

commands() { # PROGRAM
    cat >commands <<END
ro,open,closed: $bin/$1 info {img}
ro,check: $bin/$1 check {img}
ro,read: $bin/$1 read {img}
ro,bytes: $bin/$1 convert {img} {out}
ro,bytes: $bin/$1 dump {img} {out}
repair: $bin/$1 repair {img}
END
}

# Memory is what ASan itself needs, too.
campaign() { # EXPECTED STATUS, OPTIONS...
    expect "$1" blkproof fuzz run --format=qed --recipes=0 --jobs=1 --commands=commands --out=c --timeout=1s \
        --memory=200M --disk=32M --output=1M --again=1 --no-gdb "${@:2}"
}

findings() {
    sqlite3 c/campaign.sqlite 'select oracle from finding order by oracle' | tr '\n' ' '
}

planted() { # ORACLE, FIELD as a glob and as it stands in a path, OPTIONS...
    campaign 1 --config="$2" --until-finding --count=300 "${@:3}"
    equal "$(findings)" "$1 "
    local finding=(c/findings/*)
    equal "${#finding[@]}" 1
    [ -e "${finding[0]}/newest/before/test.qed" ]
    [ -e "${finding[0]}/smallest/record.json" ]
    expect 0 blkproof fuzz replay "${finding[0]}"
    contains "$out" "seen 1 of 1 times"
    expect 0 blkproof fuzz min --runs=12 "${finding[0]}"
    matches "$out" "^$1-[0-9a-f]{12}: ${2//[.]/(\\[[0-9]+\\])?\\.} = 0x[0-9a-f]+ "
    contains "$out" "hostile fields: 1 of"
}

@test "signal" { planted signal header.table_size; }
@test "sanitizer" {
    commands planted-asan
    planted sanitizer header.header_size
    contains "$(cat c/findings/*/newest/output.txt)" "heap-buffer-overflow"
    contains "$(sqlite3 c/campaign.sqlite 'select key from finding')" "in parse_header_clusters"
}
@test "timeout" { planted timeout header.autoclear_features --timeout=500ms; }
@test "memory" { planted memory header.image_size --memory=40M; }
@test "disk" { planted disk l1.entry.offset; }
@test "output" { planted output header.features; }
@test "repair" {
    planted repair header.l1_table_offset
    contains "$(sqlite3 c/campaign.sqlite 'select title from finding')" "a second repair changes the image again"
    rm -r c
    sed -i 's/^repair:/repair,rewrites:/' commands
    campaign 0 --config=header.l1_table_offset --oracles=repair --count=30
}
@test "check-read" { planted check-read header.cluster_size; }
@test "differential" { planted differential header.backing_filename_size; }
@test "modified" {
    planted modified header.magic
    equal "$(od -An -tx1 -N4 c/findings/*/newest/after/test.qed)" " 51 45 44 00"
}
@test "escape" { planted escape header.backing_filename_offset; }

@test "all at once: one bucket each" {
    local fields=() f
    for f in magic cluster_size table_size features l1_table_offset image_size backing_filename_offset \
        backing_filename_size; do
        fields+=(--config="header.$f")
    done
    campaign 1 --count=250 --bias=1 "${fields[@]}"
    equal "$(findings)" "check-read differential escape memory modified output repair signal "
    hits=$(sqlite3 c/campaign.sqlite 'select count(*) from hit')
    [ "$hits" -gt 30 ]
}

@test "valid images: no findings, exit status 0" {
    campaign 0 --valid --count=30
    contains "$out" "30 tests"
    contains "$out" "100.0 % opened, 0 findings"
}

@test "an oracle that is turned off finds nothing" {
    campaign 0 --config=header.table_size --oracles=-signal --count=30
}
