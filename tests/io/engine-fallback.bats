# SPDX-License-Identifier: BSD-2-Clause
# Where io_uring is forbidden (containers, hardened kernels) the threads engine does the work, and says so.
load ../lib/common

setup() {
    need python3
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M disk.img
    unset BLKPROOF_ENGINE
}

forbidden() {
    expect "$1" python3 "$TOP/tests/lib/no_uring.py" "${@:2}"
}

@test "without io_uring: one sentence, and the work is done" {
    need nbdsh
    forbidden 0 blkproof io -f raw -c 'write -P 7 0 64k' -c 'read -P 7 0 64k' disk.img
    equal "$err" "blkproof: io_uring is not available: Operation not permitted; using the threads engine"
    forbidden 0 blkproof serve -f raw disk.img --run 'PATH=/usr/bin:$PATH nbdsh -u "$uri" -c "print(h.pread(3, 65535).hex())"'
    equal "$err" "blkproof: io_uring is not available: Operation not permitted; using the threads engine"
    equal "$out" 070000
}

@test "an engine that was asked for is not replaced" {
    forbidden 1 blkproof io --engine uring -f raw -c 'read 0 512' disk.img
    equal "$output" "blkproof: io_uring is not available: Operation not permitted"
    BLKPROOF_ENGINE=threads forbidden 0 blkproof io -f raw -c 'read 0 512' disk.img
    equal "$err" ""
}

@test "qemu-io's stand-in says nothing that QEMU would not" {
    ln -s "$(type -P blkproof)" qemu-io
    forbidden 0 ./qemu-io -f raw -c 'read 0 512' disk.img
    equal "$err" ""
}
