# SPDX-License-Identifier: BSD-2-Clause
# The session that the QMP patch of August 2014 wanted: a guest is on the disk, and over a plain socket its rules
# change; the guest finds its disk broken, and then whole again.
load ../lib/common
load ../lib/guest
load ../lib/qmp

WAIT_SECONDS=400 # the guest boots

# say LINE: over the plain socket; the answer's first line that is no event.
say() {
    printf '%s\n' "$1" >&9
    while IFS= read -r -t "$WAIT_SECONDS" answer <&9; do
        answer=${answer%$'\r'}
        [[ $answer == *'"event"'* ]] || break
    done
}

@test "blkdebug-set-rules under a running guest" {
    guest_needs
    cd "$BATS_TEST_TMPDIR"
    blkproof img create -q -f qcow2 debian.qcow2 16M
    serve s --qmp tcp:localhost:0,server,nowait --json --id ide0-hd0 blkdebug:/dev/null:debian.qcow2
    wait_for_line s.out '"ready"'
    port=$(sed -nE 's/.*"qmp":\["tcp:localhost:([0-9]+)"\].*/\1/p' s.out)

    cat >script <<'EOS'
try() { dd if=/dev/zero of=/dev/vda bs=4096 count=16 seek=$((n * 16)) conv=fsync,notrunc 2>/dev/null; }
n=0
try && echo "PHASE works"
while try; do n=$(((n + 1) % 200)); done
echo "PHASE broken"
until try; do n=$(((n + 1) % 200)); done
echo "PHASE whole"
dd if=/dev/vda of=/dev/null bs=1M 2>/dev/null && echo "PHASE read"
EOS
    bg guest guest_run guest script -blockdev "driver=nbd,node-name=d,server.type=unix,server.path=$(sock s)" \
        -device virtio-blk-pci,drive=d
    wait_for_line guest.console '^PHASE works'

    exec 9<>"/dev/tcp/localhost/$port"
    IFS= read -r greeting <&9
    contains "$greeting" '{"QMP": {"version": {"qemu": {'
    say '{"execute": "qmp_capabilities"}'
    equal "$answer" '{"return": {}}'
    say '{"execute":"blkdebug-set-rules","arguments":{"device":"ide0-hd0","rules":[{"event":"write_aio","type":"inject-error","immediately":1,"once":0,"state":1}]}}'
    equal "$answer" '{"return": {}}'
    wait_for_line guest.console '^PHASE broken'
    say '{"execute":"blkdebug-clear-rules","arguments":{"device":"ide0-hd0"}}'
    matches "$answer" '^\{"return": \{"operation": [0-9]+\}\}$'
    wait_for_line guest.console '^PHASE whole'
    expect 0 reap guest
    contains "$(cat guest.guest)" "PHASE read"
    say '{"execute":"quit"}'
    equal "$answer" '{"return": {}}'
    exec 9>&-
    expect 0 reap s
    equal "$(cat s.err)" ""
}
