#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# FUSE exports of the monitor: made, seen, taken away while the disk lives on.

load ../lib/common
load ../lib/fuse
load ../lib/qmp

setup() {
    need_fuse
    cd "$BATS_TEST_TMPDIR"
    pattern_file image 1048576
    : >place; : >other
}

@test "block-export-add type=fuse: the disk is a file, until block-export-del" {
    qmp_serve s --id d -f raw image
    qmp_python s <<'E'
assert c.do("block-export-add", type="fuse", id="f", node_name="d", mountpoint="place", writable=True) == {}
fs = [e for e in c.do("query-block-exports") if e["type"] == "fuse"]
(n,) = [b["inserted"]["node-name"] for b in c.do("query-block")]
assert fs == [{"id": "f", "type": "fuse", "node-name": n, "shutting-down": False,
               "mountpoint": os.path.realpath("place")}], fs
fd = os.open("place", os.O_RDWR)
assert os.fstat(fd).st_size == 1 << 20
assert os.pread(fd, 4096, 8192) == open("image", "rb").read()[8192:12288]
os.pwrite(fd, b"fuse" * 1024, 4096)
c.fails("block-export-del", "export 'f' still in use", id="f")
os.close(fd)
assert c.do("block-export-del", id="f") == {}
assert c.event("BLOCK_EXPORT_DELETED")["data"] == {"id": "f"}
assert os.stat("place").st_size == 0
assert open("image", "rb").read()[4096:8192] == b"fuse" * 1024
# again, and hard: who has it open gets errors from then on
assert c.do("block-export-add", type="fuse", id="f", node_name="d", mountpoint="place") == {}
fd = os.open("place", os.O_RDONLY)
assert c.do("block-export-del", id="f", mode="hard") == {}
c.event("BLOCK_EXPORT_DELETED")
try:
    os.pread(fd, 1, 0)
    raise SystemExit("a dead file was read")
except OSError:
    pass
assert os.stat("place").st_size == 0
E
    expect 0 stop s
}

@test "what block-export-add refuses" {
    qmp_serve s --read-only --id d -f raw image
    qmp_python s <<'E'
c.fails("block-export-add", "Parameter 'mountpoint' is missing", type="fuse", id="f", node_name="d")
c.fails("block-export-add", "Parameter 'name' is unexpected", type="fuse", id="f", node_name="d", mountpoint="place", name="x")
c.fails("block-export-add", "Parameter 'mountpoint' is unexpected", type="nbd", id="f", node_name="d", mountpoint="place")
c.fails("block-export-add", "Cannot export read-only node as writable", type="fuse", id="f", node_name="d", mountpoint="place", writable=True)
c.fails("block-export-add", "cannot export at 'missing': there is no such file (an empty one will do)", type="fuse", id="f", node_name="d", mountpoint="missing")
assert c.do("block-export-add", type="fuse", id="f", node_name="d", mountpoint="place") == {}
c.fails("block-export-add", "Block export id 'f' is already in use", type="fuse", id="f", node_name="d", mountpoint="other")
c.fails("block-export-add", "a disk that can grow has one place only", type="fuse", id="g", node_name="d", mountpoint="other", growable=True)
c.fails("block-export-add", "cannot export at '%s': another disk is exported there" % os.path.realpath("place"), type="fuse", id="g", node_name="d", mountpoint="place")
assert [e["id"] for e in c.do("query-block-exports")] == ["d", "f"]
E
    expect 0 stop s # with the place mounted
    not_mounted place
}

@test "the places of --fuse are listed, and an unmounting by others is an event" {
    serve s --qmp "unix:$(qmp_sock s),server=on,wait=off" --id d --fuse place --fuse other -f raw image
    wait_for_socket "$(qmp_sock s)" s
    qmp_python s <<'E'
got = [(e["id"], e.get("mountpoint")) for e in c.do("query-block-exports")]
assert got == [("d", None), ("d-fuse", os.path.realpath("place")), ("d-fuse2", os.path.realpath("other"))], got
assert c.do("block-export-del", id="d-fuse") == {}
assert c.event("BLOCK_EXPORT_DELETED")["data"] == {"id": "d-fuse"}
subprocess.run((["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]) + ["other"], check=True)
assert c.event("BLOCK_EXPORT_DELETED")["data"] == {"id": "d-fuse2"}
assert [e["id"] for e in c.do("query-block-exports")] == ["d"]
for _ in range(3): # and come again
    assert c.do("block-export-add", type="fuse", id="f", node_name="d", mountpoint="place") == {}
    assert open("place", "rb").read(512) == open("image", "rb").read(512)
    assert c.do("block-export-del", id="f", mode="hard") == {}
    c.event("BLOCK_EXPORT_DELETED")
E
    expect 0 stop s
}

@test "an export that is taken away while its requests hang ends when they are let go" {
    qmp_serve s --id d 'json:{"driver":"fault","rules":[{"op":"write","action":"hang"}],"file":{"driver":"file","filename":"image"}}'
    qmp_python s <<'E'
import threading
assert c.do("block-export-add", type="fuse", id="f", node_name="d", mountpoint="place", writable=True) == {}
got = []
def write():
    fd = os.open("place", os.O_WRONLY)
    try: os.pwrite(fd, b"x" * 4096, 0); got.append("done")
    except OSError as e: got.append(e.errno)
    try: os.close(fd)
    except OSError: pass
t = threading.Thread(target=write); t.start()
c.event("HANG_BEGIN")
assert c.do("block-export-del", id="f", mode="hard") == {}
assert [e["shutting-down"] for e in c.do("query-block-exports") if e["id"] == "f"] == [True]
c.fails("block-export-del", "Export 'f' is already shutting down", id="f", mode="hard")
assert c.do("hang-release", device="d")["released"] == 1
c.event("BLOCK_EXPORT_DELETED"); t.join()
assert got == ["done"], got
E
    expect 0 stop s
    not_mounted place
}

@test "rules, configurations and patterns are not read from a disk of our own" {
    qmp_serve s --id d -f raw fault::image
    mkfifo pipe
    qmp_python s <<'E'
assert c.do("block-export-add", type="fuse", id="f", node_name="d", mountpoint="place") == {}
own = "'place' lies on the disk that this server itself exports at '%s': it would wait for itself for ever" % os.path.realpath("place")
for o in {"driver": "fault", "rules": "place"}, {"driver": "blkdebug", "config": "place"}:
    assert own in c.fails("blockdev-add", node_name="n", **{"file" if o["driver"] == "fault" else "image": {"driver": "null-co"}}, **o)
assert c.do("human-monitor-command", command_line='qemu-io d "write -s place 0 4k"') == ""
# a pattern from a pipe that nobody has opened: others go on
d = Client(path)
d.send('{"execute":"human-monitor-command","arguments":{"command-line":"qemu-io d \\"write -s pipe 0 4k\\""}}')
assert c.do("query-status")["status"] == "running"
open("pipe", "wb").write(b"P" * 4096)
assert d.reply()["return"].startswith("wrote 4096/4096")
assert "read 4096/4096" in c.do("human-monitor-command", command_line='qemu-io d "read -P 80 0 4k"')
E
    expect 0 stop s
    contains "$(<s.err)" "'place' lies on the disk that this server itself exports"
}
