#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# The driver fault on the command line: rule files, names, options, sentences; and servers with held requests that end.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M a.raw
    cat >rules.json <<'END'
{"rules": [
  {"id": "full", "op": "write", "ranges": "64k+64k", "action": "error", "errno": "ENOSPC"},
  {"op": "read", "sectors": "8-15", "every": 2, "action": "error"}
]}
END
}

@test "a rule file, in the name and as an option" {
    local device
    for device in fault:rules.json:a.raw 'json:{"driver":"fault","rules":"rules.json","file":{"driver":"file","filename":"a.raw"}}'; do
        expect 1 blkproof io -c 'write -q 0 4k' -c 'write -q 100k 64k' -c 'read -q 4k 512' -c 'read -q 4k 512' "$device"
        equal "$out" $'write failed: No space left on device\nread failed: Input/output error'
    done
    expect 0 blkproof io -c 'write -q 64k 512' fault::a.raw
    expect 0 blkproof io --image-opts -c 'write -q 64k 512' driver=fault,rules=rules.json,dry-run=on,file.filename=a.raw
}

@test "what is wrong with rules is said, and where" {
    says() { # RULES SENTENCE
        printf '%s' "$1" >bad.json
        expect 1 blkproof io -c 'read 0 512' fault:bad.json:a.raw
        equal "$err" "blkproof: can't open device fault:bad.json:a.raw: rules $2"
    }
    actions() { # in the order of the manual page
        sed -n '/^# ACTIONS/,/^# [B-Z]/s/^\*\([a-z-]*\)\*$/\1/p' "$TOP/docs/blkproof-fault.7.scd" | paste -sd, | sed 's/,/, /g'
    }
    says '[{"action":"error","wen":"after"}]' "'bad.json': a rule has no member 'wen'"
    says '[{"action":"pass"},{"action":"explode"}]' \
        "'bad.json': rule 2: there is no action 'explode': expected $(actions)"
    says '{"rules":[{"action":"delay","delay":"soon"}]}' \
        "'bad.json': Parameter 'delay' expects a time such as 500ms or 2s, not \"soon\""
    says '[{"action":"error","ranges":"1G"}]' \
        "'bad.json': ranges '1G': expected OFFSET+LENGTH, such as 1G+64M, or OFFSET+ (to the end)"
    expect 1 blkproof io -c 'read 0 512' fault:absent.json:a.raw
    equal "$err" "blkproof: can't open device fault:absent.json:a.raw: rules: Could not open 'absent.json': No such file or directory"
    echo '{"rules": [1,' >bad.json
    expect 1 blkproof io -c 'read 0 512' fault:bad.json:a.raw
    contains "$err" "'bad.json': line 2: "
    echo '{"rule": []}' >bad.json
    expect 1 blkproof io -c 'read 0 512' fault:bad.json:a.raw
    contains "$err" "'bad.json': expected {\"rules\": [...]} or [...]"
    expect 1 blkproof io -c 'read 0 512' fault:a.raw
    equal "$err" "blkproof: can't open device fault:a.raw: fault: expected fault:RULES:DEVICE, where RULES may be empty"
}

# The examples of a page: each block a file page.N
examples() { # PAGE
    awk '/^```/ { if (open) close(f); open = !open; if (open) f = "page." ++n; next } open { print > f }' "$TOP/docs/$1"
}

@test "the rules of the manual page are accepted, and every member has one" {
    local f member
    examples blkproof-fault.7.scd
    for f in page.*; do
        expect 0 blkproof io -c 'read -q 0 512' "fault:$f:a.raw"
    done
    for member in $(blkproof fault --help | sed -n '/^Rules, every member/,/^$/s/^ *--\([a-z-]*\) .*/\1/p'); do
        case $member in
            tag | comment | enabled | event | immediately | hold) ;;
            *) grep -q "\"$member\":" page.* || fail "no example of $member" ;;
        esac
    done
}

@test "every preset stands in the manual page with its parameters taken, and sources are shown" {
    local name
    blkproof fault presets --json >presets
    for name in $(grep -o '^{"name":"[^"]*"' presets | cut -d'"' -f4); do
        grep -q "^.*\*$name\*" "$TOP/docs/blkproof-fault.7.scd" || fail "$name is not in the page"
        echo "[{\"preset\":\"$name\",\"ranges\":\"0+64k\"}]" >preset.json
        [[ $name == flush-fail-once ]] || expect 0 blkproof io -c 'flush' "fault:preset.json:a.raw"
    done
    expect 0 blkproof fault presets limp-10x
    matches "$out" '^limp-10x: .*Source: Do et al., Limplock, SoCC 2013.*Unverified: .*--param=factor=VALUE'
    expect 1 blkproof fault presets limp
    equal "$err" "blkproof: there is no preset 'limp'"
}

@test "what a rule file says once for all its rules" {
    says() { # FILE SENTENCE
        printf '%s' "$1" >bad.json
        expect 1 blkproof io -c 'read 0 512' fault:bad.json:a.raw
        equal "$err" "blkproof: can't open device fault:bad.json:a.raw: rules: 'bad.json': $2"
    }
    cat >sets.json <<'END'
{"range-sets": {"a": ["4k+4k", "16k+4k"], "b": "64k+1"},
 "rules": [{"ranges": "@a", "action": "error", "errno": "ENOSPC"}, {"ranges": ["@b", "128k+1"], "action": "error"}]}
END
    expect 1 blkproof io -c 'write -q 0 4k' -c 'write -q 16k 4k' -c 'write -q 64k 4k' -c 'write -q 128k 4k' fault:sets.json:a.raw
    equal "$out" $'write failed: No space left on device\nwrite failed: Input/output error\nwrite failed: Input/output error'
    says '{"rules":[{"ranges":"@c","action":"error"}],"range-sets":{"a":[]}}' "there are no range-sets called 'c'"
    says '{"rules":[],"range-sets":[]}' 'range-sets: expected {"NAME": ranges, ...}'
    says '{"rules":[],"time-scale":0}' 'time-scale: expected a number above 0 and at most 1000000'
    says '{"rules":[],"time":1}' 'expected {"rules": [...]} or [...]'
}

@test "the rules of blkdebug's manual page are accepted" {
    examples blkproof-blkdebug.7.scd
    expect 0 blkproof io -f raw -c 'read -q 0 512' blkdebug:page.1:a.raw
}

@test "io ends with requests that are held, delayed, or at a breakpoint" {
    echo '[{"op":"write","action":"hang","deadman":0},{"op":"read","action":"delay","delay":"3600s"}]' >hang.json
    expect 0 timeout 50 blkproof io -c 'aio_write 0 512' -c 'aio_read 0 512' fault:hang.json:a.raw
    expect 0 timeout 50 blkproof io -f raw -c 'break write_aio A' -c 'aio_write 0 512' -c 'wait_break A' blkdebug::a.raw
    contains "$out" "blkdebug: Suspended request 'A'"
    contains "$out" "wrote 512/512 bytes"
}

serve() {
    bg serve blkproof serve --nbd unix:s -f raw "$@"
    wait_for_socket s serve
}

@test "a server with a hung disk ends on SIGTERM, and its client is answered" {
    echo '[{"op":"write","action":"hang","deadman":0}]' >hang.json
    serve fault:hang.json:a.raw
    # sleep, for no time, shows what was printed until then; the write is held by then, having come first
    bg client blkproof io -f raw -c 'aio_write 0 512' -c 'read 4096 512' -c 'sleep 0' -c aio_flush 'nbd+unix:///?socket=s'
    wait_until "the read that is not held" grep -q 'read 512/512' client.out
    WAIT_SECONDS=30 stop serve
    reap client
    contains "$(<client.out)" 'wrote 512/512'
}

@test "limits of blkdebug change no bytes" {
    expect 0 blkproof io --image-opts -c 'write -q -P 1 100 70000' -c 'read -q -P 1 100 70000' \
        driver=blkdebug,align=4096,max-transfer=8192,image.filename=a.raw
    expect 0 blkproof io -f raw -c 'read -q -P 1 100 70000' -c 'read -q -P 0 0 100' a.raw
}

@test "a state that no rule leads to is told, and not under QEMU's name" {
    printf '[inject-error]\nevent = "read_aio"\nstate = "2"\n' >c.conf
    expect 0 blkproof io -f raw -c 'read -q 0 512' blkdebug:c.conf:a.raw
    equal "$err" "blkproof: warning: blkdebug: the rule for event 'read_aio' in state 2 can never act: the state begins as 1, and no set-state rule leads there"
    ln -s "$(command -v blkproof)" qemu-io
    expect 0 ./qemu-io -f raw -c 'read -q 0 512' blkdebug:c.conf:a.raw
    equal "$err" ""
}

@test "wait_break for what cannot come is an error, not an endless wait" {
    expect 1 timeout 50 blkproof io -f raw -c 'wait_break A' blkdebug::a.raw
    equal "$out" "Could not wait for breakpoint A: No such file or directory"
    expect 1 timeout 50 blkproof io -f raw -c 'break l2_load A' -c 'aio_write -q 0 512' -c 'wait_break A' blkdebug::a.raw
    contains "$out" "Could not wait for breakpoint A: no request is under way that could reach it"
}

@test "a dropped request is never answered; the server goes on, and ends" {
    echo '[{"id":"w","op":"write","action":"hang","deadman":0}]' >hang.json
    bg serve blkproof serve --nbd unix:s --qmp unix:q,server=on,wait=off -f raw fault:hang.json:a.raw
    wait_for_socket s serve
    wait_for_socket q serve
    bg client blkproof io -f raw -c 'aio_write 0 512' -c 'read 4096 512' -c 'sleep 0' -c aio_flush 'nbd+unix:///?socket=s'
    wait_until "the read that is not held" grep -q 'read 512/512' client.out
    expect 0 blkproof fault --qmp unix:q release w --drop
    expect 0 blkproof fault --qmp unix:q remove w
    expect 0 blkproof io -f raw -c 'write -q 0 512' -c 'read -q -P 0xcd 0 512' 'nbd+unix:///?socket=s'
    kill -0 "$(pid client)" # it waits on
    lacks "$(<client.out)" "wrote"
    stop serve
    reap client
    matches "$(<client.out)" "aio_write failed: "
}
