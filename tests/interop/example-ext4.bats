# SPDX-License-Identifier: BSD-2-Clause
# examples/ext4, with few power cuts; and that examples leave nothing behind, whatever happens to them.
load ../lib/common
load ../lib/fuse

setup() {
    need_fuse
    need_loop
    need mkfs.ext4 e2fsck python3 pgrep
    export TMPDIR=$BATS_TEST_TMPDIR
}

nothing_is_left() {
    ! grep -F "$BATS_TEST_TMPDIR/" /proc/self/mounts
    ! losetup -l -n -O BACK-FILE | grep -F "$BATS_TEST_TMPDIR/"
    equal "$(find "$BATS_TEST_TMPDIR" -name 'blkproof-*')" ""
    ! pgrep -f "$BATS_TEST_TMPDIR/blkproof-"
}

@test "ext4: with barriers no error is hidden and no fsynced record is lost; with nobarrier both happen" {
    expect 0 "$TOP/examples/ext4/run" --cuts 3
    equal "$(grep -c "as it must be" <<<"$out")" 6
    matches "$out" $'\n''ext4: as expected: [^'$'\n'']*$'
    nothing_is_left
}

@test "an example that is interrupted leaves nothing behind, even while its disk is silent" {
    bg e "$TOP/examples/ext4/run" --cuts 1000
    wait_until "a disk that is silent" make_silent
    kill -INT "$(pid e)"
    expect 1 reap e
    equal "$(cat "$BATS_TEST_TMPDIR/e.err")" interrupted
    nothing_is_left
}
# Each round has a server of its own, which may end meanwhile.
make_silent() {
    qmp=$(echo "$BATS_TEST_TMPDIR"/blkproof-ext4-*/qmp)
    [ -S "$qmp" ] || return 1
    blkproof fault --qmp "unix:$qmp" add --hang --id silent --before cut &&
        blkproof fault --qmp "unix:$qmp" wait silent --timeout 2s
}
