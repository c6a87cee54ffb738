# SPDX-License-Identifier: BSD-2-Clause
# The verb fault, on a running server.
load ../lib/common
load ../lib/qmp

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 4M disk.img
}

io() { # COMMAND...: on the server s; errors are the test's business
    local args=() c
    for c; do args+=(-c "$c"); done
    blkproof io -f raw -t writeback "${args[@]}" "$(uri s)"
}

@test "add, list, set, remove" {
    qmp_serve s --id d0 -f raw fault::disk.img
    expect 0 fault s list
    matches "$out" '^d0, node [^ ]*: state 1, next operation 1, 0 rules$'
    expect 0 fault s add --id bad --write --range 1M+64k --error ENOSPC --every 3
    equal "$out" "1 rule, from operation 1 on"
    expect 1 io "write 1M 4k" "write 1M 4k" "write 1M 4k" "write 2M 4k"
    equal "$(grep -c '^wrote' <<<"$out")" 3
    contains "$out" "write failed: No space left on device"
    expect 0 fault s list
    matches "$out" '
  ID +ACTION +FIRED +MATCHED +RULE
  bad +error +1 +3 +op=write ranges=1M\+64k errno=ENOSPC every=3$'
    expect 0 fault s set bad --every 1 --unset ranges
    expect 0 fault s list
    matches "$out" '  bad +error +1 +3 +op=write errno=ENOSPC every=1$'
    expect 1 io "write 2M 4k"
    expect 0 fault s add --id first --before bad --pass --write --sector 0-7
    expect 0 io "write 0 4k"
    expect 1 fault s remove first none # all or none
    contains "$err" "has no rule 'none'"
    expect 0 fault s remove first bad
    matches "$out" '^removed, from operation [0-9]+ on$'
    expect 0 io "write 1M 4k"
    expect 0 fault s add --read --write --delay 1ms
    expect 0 fault s list --json
    equal "$(jq -c '.[0].rules[0] | [.action, .op, .delay, .id]' <<<"$out")" '["delay",["read","write"],"1ms","r1"]'
    expect 0 fault s remove --all
    equal "$(fault s list --json | jq '.[0].rules | length')" 0
}

@test "hang and release, each outcome but drop; wait" {
    qmp_serve s --id d0 -f raw fault::disk.img
    fault s add --id h --tag stuck --write --hang
    for how in "" "--error ENOSPC"; do
        bg io blkproof io -f raw -t writeback -c "write -P 9 0 4k" "$(uri s)"
        expect 0 fault s wait h
        expect 0 fault s list
        contains "$out" "(holds 1)"
        # shellcheck disable=SC2086
        expect 0 fault s release stuck $how
        matches "$out" '^1 request released( with ENOSPC)?$'
        if [ -z "$how" ]; then
            expect 0 reap io
        else
            expect 1 reap io
            contains "$(cat io.out)" "No space left"
        fi
        fault s remove h
        fault s add --id h --tag stuck --write --hang
    done
    expect 1 fault s release none
    contains "$err" "'none'"
    expect 0 fault s release
    equal "$out" "0 requests released"
    expect 1 fault s wait h --count 5 --timeout 10ms
    equal "$err" "blkproof: rule 'h' has fired 0 of 0 times by now"
    expect 1 fault s wait none
    contains "$err" "no rule 'none'"
}

@test "rule files, states, dry runs" {
    qmp_serve s --id d0 -f raw fault::disk.img
    echo '{"rules":[{"id":"a","op":"write","action":"error","state":2},{"id":"b","op":"read","action":"state","new-state":2}]}' >rules.json
    expect 0 fault s add --rules rules.json
    equal "$out" "2 rules, from operation 1 on"
    expect 0 fault s state
    matches "$out" ': state 1$'
    expect 0 io "write 0 4k"
    expect 0 io "read 0 4k"
    expect 1 io "write 0 4k"
    expect 0 fault s state 1
    expect 0 io "write 0 4k"
    echo '{"rules":[{"id":"c","op":"write","action":"error"},{"op":"write"}]}' >bad.json
    expect 1 fault s add --replace --rules bad.json # all or none
    equal "$(fault s list --json | jq -c '[.[0].rules[].id]')" '["a","b"]'
    expect 1 fault s add --rules none.json
    contains "$err" "none.json"
    expect 0 fault s add --replace --dry-run --id c --write
    matches "$out" '^1 rule \(dry run\), from operation [0-9]+ on$'
    expect 0 io "write 0 4k"
    expect 0 fault s list
    contains "$out" ", dry run"
    equal "$(fault s list --json | jq -c '.[0].rules[0] | [.id, .fired]')" '["c",1]'
    expect 0 fault s dry-run off
    expect 1 io "write 0 4k"
}

@test "several disks: which one must be said" {
    truncate -s 1M other.img
    qmp_serve s -f raw a=fault::disk.img b=fault::other.img
    expect 1 fault s add --write --error EIO
    equal "$err" "blkproof: there are several fault nodes: say which, by device or node-name"
    expect 0 fault s --disk b add --write --error EIO
    equal "$(fault s list --json | jq -c '[.[] | [.device, (.rules | length)]]')" '[["a",0],["b",1]]'
    expect 0 fault s --disk b list
    equal "$(wc -l <<<"$out")" 3
    expect 1 fault s --disk c list
    contains "$err" "Cannot find device='c'"
}

@test "watch: rules, events, counters; ends with the server, with a signal, or with Ctrl-C" {
    qmp_serve s --id d0 -f raw fault::disk.img
    fault s add --id bad --write --error EIO
    bg watch blkproof fault --qmp "unix:$(qmp_sock s)" watch --interval 20ms
    bg json blkproof fault --qmp "unix:$(qmp_sock s)" watch --json --interval 20ms
    wait_for_line watch.out '^  bad +error'
    wait_for_line json.out '"rule":"bad"'
    expect 1 io "write 0 4k"
    wait_for_line watch.out '^[0-9:]{8}\.[0-9]{6} FAULT_INJECTED .* rule=bad .* op=write offset=0 bytes=4096 errno=EIO device=d0$'
    wait_for_line watch.out '^node .*, rule bad: fired 1 of 1, holds 0$'
    wait_for_line json.out '"fired":1,"matched":1'
    jq -es 'map(select(.event == "FAULT_INJECTED"))[0].data.rule == "bad"' json.out
    kill -INT "$(pid json)"
    expect 0 reap json
    equal "$(cat json.err)" ""
    stop s || true
    expect 1 reap watch
    equal "$(cat watch.err)" "blkproof: the server has closed the connection"
}

@test "usage, and servers that are none" {
    export BLKPROOF_QMP=
    unset BLKPROOF_QMP
    wrong() { # SENTENCE ARG...
        local sentence=$1
        shift
        expect 2 blkproof fault "$@"
        equal "$err" "blkproof: $sentence (see 'blkproof fault --help')"
    }
    wrong "a command is missing"
    wrong "unknown command 'bogus'" --qmp x bogus
    wrong "--qmp=ADDRESS is missing, and BLKPROOF_QMP is not set" list
    wrong "set: expected 'set ID'" --qmp x set
    wrong "list: expected 'list'" --qmp x list more
    wrong "--enabled=maybe: expected on or off" --qmp x add --enabled maybe
    wrong "--interval=soon: expected a time like 500ms" --qmp x watch --interval soon
    expect 2 blkproof fault --no-such-option
    expect 1 blkproof fault --qmp unix:none list
    equal "$err" "blkproof: connect to 'unix:none': No such file or directory"
    expect 1 blkproof fault --qmp nonsense list
    equal "$err" "blkproof: connect to 'nonsense': expected unix:PATH or tcp:HOST:PORT"
    serve n -f raw disk.img
    expect 1 blkproof fault --qmp "unix:$(sock n)" list # NBD
    contains "$err" "the server's answer: "
    stop n
    qmp_serve s -f raw disk.img
    expect 0 fault s list
    equal "$out" "no disk has a fault node"
    expect 1 fault s add --read --error EIO
    equal "$err" "blkproof: there is no fault or blkdebug node"
    expect 1 fault s add
    expect 1 fault s remove
    contains "$err" "remove: which rules?"
    expect 1 fault s --disk disk0 add --read
    contains "$err" "there is no fault or blkdebug node at or below"
}
