#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC2154 # out and err are set by expect
# Campaigns of `blkproof fuzz run`: they can be killed, interrupted, divided and gone on with; what is wrong with the command
# line is said; generators, images, fork servers.

load ../lib/common

setup() {
    need sqlite3
    cd "$BATS_TEST_TMPDIR" || return
    bin=$(dirname "$(type -P blkproof)")/tests
    [ -x "$bin/planted" ] || skip "tests are not built beside $(type -P blkproof)"
    echo "ro,open: $bin/planted info {img}" >info
    echo "ro,read: $bin/planted read {img}" >>info
    echo "ro,check: $bin/planted check {img}" >>info
}

COMMON=(--format=qed --recipes=0 --jobs=1 --again=0 --no-gdb --timeout=20s --config=header.table_size
    --config=header.magic --config=header.cluster_size --commands=info)

# What a campaign found, without the times.
found() {
    sqlite3 "$1/campaign.sqlite" 'select id, key, first_n, newest_n, smallest_n from finding order by id;
        select id, n from hit order by id, n; select n, opened from test order by n;
        select path, mutated, opened, hits from field order by path'
}

# More than $2 tests of $1 are done, or the campaign has ended.
tests_or_end() {
    [ "$(sqlite3 "$1/campaign.sqlite" 'select count(*) from test' 2>/dev/null || echo 0)" -gt "$2" ] ||
        ended "${BG_PID[fuzz]}"
}

@test "a killed campaign goes on: nothing is lost, nothing is there twice" {
    expect 1 blkproof fuzz run "${COMMON[@]}" --count=60 --out=whole
    for _ in 1 2 3; do
        bg fuzz blkproof fuzz run "${COMMON[@]}" --count=60 --out=parts --json
        # as soon as it has done something new
        before=$(sqlite3 parts/campaign.sqlite 'select count(*) from test' 2>/dev/null || echo 0)
        wait_until "a test" tests_or_end parts "${before:-0}"
        kill -KILL "${BG_PID[fuzz]}" 2>/dev/null || true
        wait "${BG_PID[fuzz]}" || true
        unset "BG_PID[fuzz]"
    done
    expect 1 blkproof fuzz run --jobs=1 --again=0 --no-gdb --count=60 --out=parts --resume
    equal "$(found parts)" "$(found whole)"
    equal "$(cd parts && find findings -name test.qed -path '*before*' | sort)" \
        "$(cd whole && find findings -name test.qed -path '*before*' | sort)"
    local f
    for f in $(cd whole && find findings -name test.qed -path '*before*'); do
        cmp "whole/$f" "parts/$f"
    done
    equal "$(ls parts/staging)" ""
}

@test "Ctrl-C: the test that runs is finished, the campaign is whole" {
    bg fuzz blkproof fuzz run "${COMMON[@]}" --out=c
    wait_until "a test" tests_or_end c 3
    kill -INT "${BG_PID[fuzz]}"
    local status=0
    wait "${BG_PID[fuzz]}" || status=$?
    unset "BG_PID[fuzz]"
    equal "$status" 1
    local n
    n=$(sqlite3 c/campaign.sqlite 'select count(*) from test')
    equal "$(sqlite3 c/campaign.sqlite 'select max(n) + 1 from test')" "$n"
    expect 1 blkproof fuzz run --no-gdb --out=c --count=$((n + 5))
    equal "$(sqlite3 c/campaign.sqlite 'select count(*) from test')" "$((n + 5))"
}

@test "shards find together what one campaign finds" {
    expect 1 blkproof fuzz run "${COMMON[@]}" --count=40 --out=whole
    local k
    for k in 1 2 3; do
        expect 1 blkproof fuzz run "${COMMON[@]}" --count=40 --out="part$k" --shard="$k/3"
    done
    expect 0 blkproof fuzz merge --out=all part1 part2 part3
    equal "$(found all)" "$(found whole)"
    expect 0 blkproof fuzz replay all/findings/signal-*
    expect 1 blkproof fuzz merge --out=all part1
    contains "$err" "is in both"
    expect 1 blkproof fuzz run "${COMMON[@]}" --count=5 --seed=7 --out=other
    expect 1 blkproof fuzz merge --out=all other
    contains "$err" "is another campaign"
}

@test "a directory that holds another campaign is left alone" {
    expect 1 blkproof fuzz run "${COMMON[@]}" --count=20 --out=c
    expect 2 blkproof fuzz run "${COMMON[@]}" --count=20 --out=c --seed=5
    contains "$err" "holds a campaign with another 'seed'"
    expect 1 blkproof fuzz run "${COMMON[@]}" --count=22 --out=c
    equal "$(sqlite3 c/campaign.sqlite 'select count(*) from test')" 22
}

@test "two campaigns do not run in one directory" {
    bg fuzz blkproof fuzz run "${COMMON[@]}" --out=c
    wait_until "a campaign" test -e c/campaign.sqlite
    expect 1 blkproof fuzz run "${COMMON[@]}" --count=5 --out=c
    contains "$err" "a campaign is running in"
}

@test "with a fork server the findings are the same" {
    expect 1 blkproof fuzz run "${COMMON[@]}" --count=30 --out=a
    expect 1 blkproof fuzz run "${COMMON[@]}" --count=30 --out=b --fork-server
    lacks "$output" "no fork server"
    equal "$(found b)" "$(found a)"
}

@test "without namespaces the findings are the same" {
    expect 1 blkproof fuzz run "${COMMON[@]}" --count=10 --out=a
    expect 1 blkproof fuzz run "${COMMON[@]}" --count=10 --out=b --no-sandbox
    contains "$err" "no namespaces here"
    equal "$(found b)" "$(found a)"
    equal "$(find b -name '.work*')" ""
}

@test "a target has no network and sees no other processes" {
    cat >target <<'END'
#!/bin/sh
[ "$(grep -c : /proc/net/dev)" -le 1 ] || { echo network; exit 0; }
[ "$(ls -d /proc/[0-9]* | wc -l)" -lt 20 ] || { echo processes; exit 0; }
kill -SEGV $$
END
    chmod +x target
    expect 1 blkproof fuzz run --format=qed --jobs=1 --again=0 --no-gdb --count=1 --out=c -- ./target '{img}'
    [[ $err != *"namespaces here"* ]] || skip "namespaces are not permitted here"
    equal "$(sqlite3 c/campaign.sqlite 'select oracle from finding')" signal
}

@test "what a target leaves behind is gone before the next command" {
    cat >target <<'END'
#!/bin/sh
[ ! -e junk ] && [ ! -e link ] || kill -ABRT $$
mkdir -p junk/a && touch junk/a/b && ln -s / link && mkfifo pipe
END
    chmod +x target
    expect 0 blkproof fuzz run --format=qed --jobs=1 --count=3 --out=c -- ./target '{img}'
    contains "$out" "3 tests"
}

@test "what a target has mounted is gone before the next command" {
    printf '#!/bin/sh\nmkdir mnt && mount -t tmpfs none mnt && touch mnt/file\n' >mounts
    chmod +x mounts
    unshare -rm mount -t tmpfs none /mnt || skip "namespaces are not permitted here"
    expect 0 blkproof fuzz run "${COMMON[@]:0:5}" --count=3 --out=c -- "$PWD/mounts" "{img}"
    contains "$out" "100.0 % opened"
}

@test "a generator of one's own" {
    cat >generate <<'END'
#!/bin/sh
printf 'seed %s of %s' "$2" "$3" >"$1"
END
    cat >target <<'END'
#!/bin/sh
[ "$(cat "$1")" != "seed 103 of thing" ] || kill -ABRT $$
END
    chmod +x generate target
    expect 1 blkproof fuzz run --format=thing --generator="./generate {img} {seed} {fmt}" --seed=100 --count=6 --jobs=1 \
        --no-gdb --out=c -- ./target '{img}'
    equal "$(sqlite3 c/campaign.sqlite 'select n from hit')" 3
    equal "$(cat c/findings/*/newest/before/test.thing)" "seed 103 of thing"
    expect 0 blkproof fuzz replay c/findings/*
    echo 'exit 3' >>generate
    expect 1 blkproof fuzz run --format=thing --generator="./generate {img} {seed} {fmt}" --count=6 --jobs=1 --out=d -- ./target '{img}'
    contains "$err" "the generator failed for seed"
}

@test "images that are there get mutations" {
    mkdir images
    blkproof fuzz gen --format=qed --valid --count=3 --no-records --out=images
    cat >target <<END
#!/bin/sh
for image in $PWD/images/*; do
    ! cmp -s "\$1" "\$image" || exit 0
done
kill -ABRT \$\$
END
    chmod +x target
    expect 0 blkproof fuzz run --images=images --valid --jobs=1 --no-gdb --count=5 --out=a -- ./target '{img}'
    expect 1 blkproof fuzz run --images=images --jobs=1 --no-gdb --again=0 --count=5 --out=b -- ./target '{img}'
    equal "$(sqlite3 b/campaign.sqlite 'select count(*) from hit')" 5
}

@test "--json: an object for each finding, and one at the end" {
    expect 1 blkproof fuzz run "${COMMON[@]}" --count=30 --out=c --json
    local line
    while read -r line; do
        jq -e .event <<<"$line" >/dev/null || fail "no event: $line"
    done <<<"$out"
    equal "$(jq -r 'select(.event == "end").tests' <<<"$out")" 30
    equal "$(jq -r 'select(.event == "finding").id' <<<"$out" | sort)" \
        "$(sqlite3 c/campaign.sqlite 'select id from finding order by id')"
}

@test "wrong usage is said in one sentence, with exit status 2" {
    local args
    for args in --format=nothing --timeout=x --shard=3/2 --shard=0/2 --oracles=nothing --memory=0 --jobs=0 \
        --commands=/nowhere --commands=@nothing --bias=x "-- /nowhere {img}"; do
        # shellcheck disable=SC2086
        expect 2 blkproof fuzz run --out=c $args
        equal "$(wc -l <<<"$err")" 1
    done
    [ ! -e c ]
    expect 1 blkproof fuzz run --resume --out=nowhere
    expect 1 blkproof fuzz replay nowhere
    contains "$err" "no finding 'nowhere'"
    expect 2 blkproof fuzz replay
    expect 2 blkproof fuzz min --times=3 x
}
