# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# The main job: blkproof between a client and QEMU's qcow2 driver behind qemu-nbd, with a raw file as
# the reference. Used by tests/interop/main-job-*.bats, after ../lib/common. Everything is made in
# $BATS_TEST_TMPDIR, which becomes the working directory.

# main_job_start SIZE [QEMU_NBD_ARG...]: disk.qcow2 and reference.raw, both empty; the servers "qemu"
# and "proof", reached at $(uri proof).
main_job_start() {
    local size=$1
    shift
    cd "$BATS_TEST_TMPDIR" || return
    need qemu-img qemu-nbd
    qemu-img create -q -f qcow2 disk.qcow2 "$size"
    truncate -s "$size" reference.raw
    qemu_nbd qemu -f qcow2 "$@" disk.qcow2
    main_job_proof
}

main_job_proof() {
    serve proof 'json:{"driver":"blkverify",
        "raw":{"driver":"file","filename":"'"$BATS_TEST_TMPDIR"'/reference.raw"},
        "test":{"driver":"nbd","server":{"type":"unix","path":"'"$(sock qemu)"'"}}}'
}

# main_job_clean: stop both; blkproof must have had nothing to say, and the two files must hold the
# same. (The second half by QEMU's judgement, not ours.)
main_job_clean() {
    local status=0
    stop proof || status=$?
    equal "$status $(cat proof.err)" "0 " "exit status and messages of a clean run"
    stop qemu
    expect 0 qemu-img compare -f raw -F qcow2 reference.raw disk.qcow2
    # shellcheck disable=SC2154 # set by expect
    equal "$out" "Images are identical."
}
