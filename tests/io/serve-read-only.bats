# SPDX-License-Identifier: BSD-2-Clause
# serve --read-only: nothing changes, and the file may be one that cannot be written.
load ../lib/common

@test "a read-only export refuses what would change it" {
    need nbdsh
    cd "$BATS_TEST_TMPDIR"
    pattern_file disk.img 1048576
    cp disk.img before.img
    chmod a-w disk.img
    serve s --read-only -f raw disk.img
    nbdsh -u "$(uri s)" -c '
assert h.is_read_only()
h.set_strict_mode(0)
for f in (lambda: h.pwrite(b"x" * 512, 0), lambda: h.zero(512, 0), lambda: h.trim(512, 0)):
    try:
        f()
        raise SystemExit("no error")
    except nbd.Error as e:
        assert e.errno == "EPERM", e.errno
h.flush()
assert h.pread(512, 4096)[:16] == b"\0" * 7 + b"\1" + b"\0" * 7 + b"\1"'
    expect 0 stop s
    cmp disk.img before.img
}
