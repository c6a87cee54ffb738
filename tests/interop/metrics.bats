#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# serve --metrics, read by Prometheus' own client library.

load ../lib/common

setup() {
    need qemu-io python3
    /usr/bin/python3 -c 'import prometheus_client' 2>/dev/null || skip "python3-prometheus-client is not installed"
    cd "$BATS_TEST_TMPDIR"
}

scrape() { /usr/bin/python3 "$TOP/tests/lib/scrape.py" "$(jq -r .metrics ready)" "$@"; }

metrics_serve() { # ARG...
    serve s --json --metrics tcp:127.0.0.1:0 "$@"
    head -n 1 s.out >ready
}

@test "operations, bytes and errors of every node" {
    truncate -s 1M a b
    metrics_serve --image-opts driver=blkverify,on-mismatch=report,raw.driver=file,raw.filename=a,test.driver=file,test.filename=b
    qemu-io -f raw -c 'write 0 4k' -c 'write 64k 8k' -c 'read 0 16k' "$(uri s)"
    equal "$(scrape operations_total,driver=blkverify,op=write bytes_total,driver=blkverify,op=write \
        bytes_total,driver=blkverify,op=read errors_total,driver=blkverify,op=read errors_total,driver=file,op=write \
        verify_mismatches_total clients)" "$(printf '%s\n' 2 12288 16384 0 '2 samples' 0 0)"
    printf x | dd of=b conv=notrunc status=none
    qemu-io -f raw -c 'read 0 4k' "$(uri s)" || true
    equal "$(scrape verify_mismatches_total)" 1
}

@test "times: total, of the media, injected; a label that has to be escaped" {
    truncate -s 1M a
    echo '[{"id": "slow \"w\" \\", "op": "write", "action": "delay", "delay": "30ms"},
           {"id": "bad", "op": "read", "action": "error", "ranges": "64k+64k"}]' >rules
    metrics_serve --id d fault:rules:a
    qemu-io -f raw -c 'write 0 4k' -c 'write 8k 4k' -c 'read 0 4k' "$(uri s)"
    qemu-io -f raw -c 'read 64k 4k' "$(uri s)" || true
    w=op=write,driver=fault
    # a write took 30 ms at least, by the rule; how much more, and how long the file took, is the machine's business
    equal "$(scrape request_seconds_count,$w,part=total request_seconds_bucket,$w,part=injected,le=0.02 \
        request_seconds_bucket,$w,part=injected,le=+Inf request_seconds_count,$w,part=media \
        request_seconds_count,op=read,driver=raw,part=total)" "$(printf '%s\n' 2 0 2 2 1)"
    equal "$(scrape 'fault_rule_fired_total,rule=slow "w" \' fault_rule_fired_total,rule=bad \
        errors_total,op=read,driver=fault errors_total,op=read,driver=raw)" "$(printf '%s\n' 2 1 1 0)"
}

@test "bytes at risk: written, and not yet flushed" {
    truncate -s 1M a
    metrics_serve a
    risk='/usr/bin/python3 $TOP/tests/lib/scrape.py $address unflushed_bytes,driver=raw unflushed_bytes,driver=file'
    address=$(jq -r .metrics ready) risk=$risk PATH=/usr/bin:$PATH nbdsh -u "$(uri s)" -c '
import os, subprocess
def risk():
    print(subprocess.check_output(os.environ["risk"], shell=True).decode().split())
h.pwrite(b"x" * 4096, 0)
h.pwrite(b"y" * 8192, 65536)
risk()
h.pwrite(b"z" * 512, 0, nbd.CMD_FLAG_FUA)
risk()
h.flush()
risk()' >risks
    equal "$(<risks)" "$(printf "['%s', '%s']\n" 12288 12288 12288 12288 0 0)"
}

@test "what a volatile write cache holds" {
    truncate -s 1M a
    metrics_serve write-cache:a
    qemu-io -f raw -t writeback -c 'write 0 64k' -c 'read 0 4k' -c 'abort' "$(uri s)" || true # it would flush
    equal "$(scrape write_cache_dirty_bytes write_cache_power_cuts_total)" "$(printf '%s\n' 65536 0)"
    qemu-io -f raw -c flush "$(uri s)"
    equal "$(scrape write_cache_dirty_bytes)" 0
}

@test "what is no GET of /metrics is refused; a client that says nothing does not stand in the way" {
    truncate -s 1M a
    metrics_serve a
    address=$(jq -r .metrics ready)
    url=http://${address#tcp:}
    exec 7<>"/dev/tcp/127.0.0.1/${address##*:}"
    printf 'GARBAGE\r\n\r\n' >&7
    PATH=/usr/bin:$PATH python3 - "$url" <<'EOF'
import sys, urllib.request, urllib.error
for path, data, status in (("/", None, 404), ("/metrics", b"x" * 100000, 405), ("/metrics/../x", None, 404)):
    try:
        urllib.request.urlopen(sys.argv[1] + path, data, timeout=20)
        sys.exit(path)
    except urllib.error.HTTPError as e:
        assert e.code == status, (path, e.code)
EOF
    exec 7>&-
    [ "$(scrape)" -ge 7 ]
    expect 0 stop s
    equal "$(<s.err)" ""
}

@test "on a unix socket; not beyond this machine; an address in use" {
    truncate -s 1M a
    serve s --metrics unix:m.sock a
    [ -S m.sock ]
    stop s
    [ ! -e m.sock ]
    expect 1 blkproof serve --nbd unix:x.sock --metrics tcp:0.0.0.0:0 a
    equal "$(wc -l <<<"$err")" 1
    serve t --metrics unix:m.sock a
    expect 1 blkproof serve --nbd unix:x.sock --metrics unix:m.sock a
    equal "$(wc -l <<<"$err")" 1
}
