# SPDX-License-Identifier: BSD-2-Clause
# QMP's commands about disks, nodes and exports, and their events.
load ../lib/common
load ../lib/qmp

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M disk.img
}

@test "every command is listed and described, and every type that the schema mentions is in it" {
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
names = [x["name"] for x in c.do("query-commands")]
assert len(names) == len(set(names)) and {"qmp_capabilities", "blkdebug-set-rules", "quit", "wait-for"} <= set(names)
schema = c.do("query-qmp-schema")
by_name = {x["name"]: x for x in schema}
assert len(by_name) == len(schema)
assert sorted(x["name"] for x in schema if x["meta-type"] == "command") == sorted(names)
for x in schema:
    for t in [x.get(k) for k in ("arg-type", "ret-type", "element-type")] + [m.get("type") for m in x.get("members", [])] + \
             [v["type"] for v in x.get("variants", [])]:
        assert t is None or t in by_name, (x, t)
events = {x["name"] for x in schema if x["meta-type"] == "event"}
assert events >= {"FAULT_INJECTED", "FAULT_EXHAUSTED", "STATE_CHANGED", "HANG_BEGIN", "HANG_END", "VERIFY_MISMATCH", "CLIENT_CONNECT",
                  "CLIENT_DISCONNECT", "BLOCK_IMAGE_CORRUPTED", "SHUTDOWN", "STOP", "RESUME"}
drivers = {v["case"] for v in by_name["BlockdevOptions"]["variants"]}
assert drivers >= {"file", "qcow2", "raw", "blkverify", "fault", "blkdebug", "nbd"}, drivers
assert {"name": "path", "default": None, "type": "str"} in by_name["SocketAddressData"]["members"]
E
}

@test "query-block and query-named-block-nodes: disks by their names, nodes with what is known" {
    blkproof img create -q -f qcow2 back.qcow2 2M
    blkproof img create -q -f qcow2 -b back.qcow2 -F qcow2 top.qcow2
    qmp_serve s --id first a=top.qcow2 b=disk.img
    qmp_python s <<'E'
first, second = c.do("query-block")
assert (first["device"], second["device"]) == ("first", "b")
i = first["inserted"]
assert i["drv"] == "qcow2" and i["backing_file_depth"] == 1 and i["ro"] is False and i["backing_file"] == "back.qcow2", i
image = i["image"]
assert image["virtual-size"] == 2 << 20 and image["format"] == "qcow2" and image["cluster-size"] == 65536
assert image["backing-filename"] == "back.qcow2" and image["backing-image"]["format"] == "qcow2"
assert image["format-specific"]["data"]["compat"] == "1.1"
nodes = c.do("query-named-block-nodes", flat=True)
assert sorted(n["drv"] for n in nodes) == ["file", "file", "file", "qcow2", "qcow2", "raw"]
assert not any("backing-image" in n["image"] for n in nodes)
E
}

@test "blockdev-add, block-export-add, clients, block-export-del, blockdev-del" {
    blkproof img create -q -f qcow2 new.qcow2 1M
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
for desc, args in [
    ("Parameter 'driver' is missing", {}),
    ("'node-name' must be specified for the root node", {"driver": "null-co"}),
    ("Invalid node-name: 'a b'", {"driver": "null-co", "node_name": "a b"}),
    ("node-name=disk0 is conflicting with a device id", {"driver": "null-co", "node_name": "disk0"}),
    ("Invalid parameter type for 'driver', expected: string", {"driver": 1}),
]:
    c.fails("blockdev-add", desc, **args)
assert "No such file or directory" in c.fails("blockdev-add", driver="raw", node_name="x", file={"driver": "file", "filename": "none"})
add = dict(driver="qcow2", node_name="n", file={"driver": "file", "filename": "new.qcow2"})
assert c.do("blockdev-add", **add) == {}
c.fails("blockdev-add", "Duplicate nodes with node-name='n'", **add)
assert c.do("block-export-add", type="nbd", id="e", node_name="n", name="new", writable=True) == {}
c.fails("block-export-add", "Block export id 'e' is already in use", type="nbd", id="e", node_name="n")
c.fails("block-export-add", "NBD server already has export named 'new'", type="nbd", id="e1", node_name="n", name="new")
c.fails("block-export-add", "Cannot find device='' nor node-name='none'", type="nbd", id="e1", node_name="none")
c.fails("block-export-add", "Invalid block export id", type="nbd", id="1", node_name="n")
c.fails("blockdev-del", "Node n is in use", node_name="n")
assert [(e["id"], e["node-name"], e["shutting-down"], e["type"]) for e in c.do("query-block-exports")][1] == ("e", "n", False, "nbd")

# a client that stays
io = subprocess.Popen(["blkproof", "io", "-f", "raw", nbd.replace("///", "///new")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
io.stdin.write(b"write -P 7 0 64k\nsleep 1\n"); io.stdin.flush()
data = c.event("CLIENT_CONNECT")["data"]
assert b"wrote" in io.stdout.read(100)
assert data["export"] == "new" and data["type"] == "nbd" and data["address"] == "unix:" + nbd.split("=")[1], data
c.fails("block-export-del", "export 'e' still in use", id="e")
assert c.do("query-block-exports")[1]["shutting-down"] is False
assert c.do("block-export-del", id="e", mode="hard") == {}
assert c.event("BLOCK_EXPORT_DELETED")["data"] == {"id": "e"}
assert any(e["event"] == "CLIENT_DISCONNECT" and e["data"]["client"] == data["client"] for e in c.events)
io.stdin.close(); io.wait()
c.fails("block-export-del", "Export 'e' is not found", id="e")
assert c.do("blockdev-del", node_name="n") == {}
c.fails("blockdev-del", "Failed to find node with node-name='n'", node_name="n")
c.fails("blockdev-del", _desc=None, node_name=c.do("query-named-block-nodes")[0]["node-name"]) # the disk's
E
    expect 0 stop s
    equal "$(cat s.err)" ""
    expect 0 blkproof io -f qcow2 -r -c "read -P 7 0 64k" new.qcow2
}

@test "a safe block-export-del leaves nothing behind" {
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
for i in range(300):
    c.do("blockdev-add", driver="null-co", node_name="n", size=65536)
    c.do("block-export-add", type="nbd", id="e", node_name="n")
    c.do("block-export-del", id="e")
    c.event("BLOCK_EXPORT_DELETED")
    c.do("blockdev-del", node_name="n")
assert len(c.do("query-block-exports")) == 1
E
    expect 0 stop s
}

@test "nbd-server-stop and -start" {
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
here = os.getcwd()
c.fails("nbd-server-start", "NBD server already running", addr={"type": "unix", "data": {"path": here + "/other"}})
assert c.do("nbd-server-stop") == {}
assert c.event("BLOCK_EXPORT_DELETED")["data"] == {"id": "disk0"}
c.fails("nbd-server-stop", "NBD server not running")
c.fails("block-export-add", "NBD server not running", type="nbd", id="e", node_name=c.do("query-named-block-nodes")[0]["node-name"])
for desc, addr in [("Parameter 'addr.data' is missing", {"type": "unix"}), ("Parameter 'addr.data.path' is missing", {"type": "unix", "data": {}}),
                   ("Parameter 'addr.data.port' is missing", {"type": "inet", "data": {"host": "localhost"}}),
                   ("Parameter 'addr.type' does not accept value 'fd'", {"type": "fd", "data": {}})]:
    c.fails("nbd-server-start", desc, addr=addr)
assert "No such file" in c.fails("nbd-server-start", addr={"type": "unix", "data": {"path": here + "/no/other"}})
assert c.do("nbd-server-start", addr={"type": "unix", "data": {"path": here + "/other"}}) == {}
assert c.do("block-export-add", type="nbd", id="again", node_name="disk0", name="x", writable=True) == {}
out = subprocess.run(["blkproof", "io", "-f", "raw", "-c", "write 0 4k", "nbd+unix:///x?socket=%s/other" % here], capture_output=True, text=True)
assert out.returncode == 0, out
E
    expect 0 stop s
    [ ! -e other ]
}

@test "block_resize" {
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
assert c.do("block_resize", device="disk0", size=2 << 20) == {}
assert os.stat("disk.img").st_size == 2 << 20
c.fails("block_resize", "Parameter 'size' expects a >0 size", device="disk0", size=-1)
c.fails("block_resize", "Cannot find device='' nor node-name=''", size=1)
c.fails("block_resize", "Cannot find device='no' nor node-name=''", device="no", size=1)
E
}

@test "stop holds clients' requests up, cont lets them go; the program's own go on" {
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
assert c.do("stop") == {}
assert c.event("STOP")
assert c.do("query-status") == {"running": False, "singlestep": False, "status": "paused", "in-flight": 0}
io = subprocess.Popen(["blkproof", "io", "-f", "raw", "-c", "write -P 5 0 4k", nbd], stdout=subprocess.PIPE)
c.event("CLIENT_CONNECT")
assert "read 4096/4096" in c.do("human-monitor-command", command_line='qemu-io disk0 "read -P 0 0 4k"')
assert io.poll() is None
assert c.do("cont") == {}
assert c.event("RESUME")
assert io.wait() == 0
assert "Pattern" not in c.do("human-monitor-command", command_line='qemu-io disk0 "read -P 5 0 4k"')
assert c.do("query-status")["status"] == "running"
E
}

@test "a stopped server ends well, and answers what it had held up" {
    qmp_serve s -f raw disk.img
    PID=$(pid s) qmp_python s <<'E'
import signal
c.do("stop")
io = subprocess.Popen(["blkproof", "io", "-f", "raw", "-c", "write -P 5 0 4k", nbd], stdout=subprocess.PIPE)
c.event("CLIENT_CONNECT")
os.kill(int(os.environ["PID"]), signal.SIGTERM)
io.wait()
E
    expect 0 reap s
}

@test "human-monitor-command qemu-io: output comes back, what would end the server does not run" {
    qmp_serve s --id d -f raw disk.img
    qmp_python s <<'E'
hmp = lambda line: c.do("human-monitor-command", command_line=line)
assert hmp('qemu-io d "write -P 3 4k 4k"').startswith("wrote 4096/4096 bytes at offset 4096\n")
assert hmp('qemu-io d "read -P 4 4k 4k"').startswith("Pattern verification failed at offset 4096, 4096 bytes\n")
assert hmp('qemu-io -d d "length"') == "1 MiB\n"
assert hmp("qemu-io d length") == "1 MiB\n"
for line in "abort", "quit", "q", "sigraise 15", "open x", "close", "reopen -r":
    assert hmp('qemu-io d "%s"' % line) == "this command is not for a monitor\n", line
assert hmp("info block").startswith("unknown command: 'info'")
assert hmp("").startswith("unknown command")
c.fails("human-monitor-command", "Cannot find device='no' nor node-name='no'", command_line='qemu-io no "length"')
assert hmp('qemu-io d "aio_write -q 0 64k"') == ""
E
    expect 0 stop s
}

@test "blockdev-reopen: another file below, as one does to make a disk fail; everything checked first" {
    qmp_serve s --id d --image-opts --export "" driver=raw,node-name=top,file.driver=file,file.node-name=f,file.filename=disk.img
    qmp_python s <<'E'
read = lambda: c.do("human-monitor-command", command_line='qemu-io d "read 0 4k"')
assert "read 4096/4096" in read()
c.do("blockdev-add", driver="blkdebug", node_name="b", image="f", inject_error=[{"event": "none", "errno": 5}])
assert c.do("blockdev-reopen", options=[{"driver": "raw", "node-name": "top", "file": "b"}]) == {}
assert read() == "read failed: Input/output error\n"
c.fails("blockdev-del", "Node b is in use", node_name="b")
for desc, o in [
    ("Failed to find node with node-name='zz'", {"driver": "raw", "node-name": "zz", "file": "f"}),
    ("node-name not specified", {"driver": "raw"}),
    ("Cannot change the option 'driver'", {"driver": "qcow2", "node-name": "top", "file": "f"}),
    ("Cannot find device='zz' nor node-name='zz'", {"driver": "raw", "node-name": "top", "file": "zz"}),
    ("Making 'top' a child of 'top' would create a cycle", {"driver": "raw", "node-name": "top", "file": "top"}),
    ("Cannot change the option 'filename'", {"driver": "file", "node-name": "f", "filename": "other.img"}),
    ("Parameter 'bogus' is unexpected", {"driver": "raw", "node-name": "top", "file": "f", "bogus": 512})]:
    c.fails("blockdev-reopen", desc, options=[o])
assert read() == "read failed: Input/output error\n" # nothing of it has happened
assert c.do("blockdev-reopen", options=[{"driver": "raw", "node-name": "top", "file": "f"}]) == {}
assert "read 4096/4096" in read()
assert c.do("blockdev-del", node_name="b") == {}
assert c.do("blockdev-reopen", options=[]) == {}
E
    expect 0 stop s
}

@test "blockdev-reopen: several nodes and options change together, or nothing does" {
    qmp_serve s --id d --image-opts --export "" driver=raw,node-name=top,offset=0,size=512k,file.driver=delay,file.node-name=slow,file.read=0,file.file.driver=file,file.file.node-name=f,file.file.filename=disk.img
    printf AAAA | dd of=disk.img bs=1 seek=524288 conv=notrunc status=none
    qmp_python s <<'E'
hmp = lambda line: c.do("human-monitor-command", command_line='qemu-io d "%s"' % line)
top = lambda **k: dict({"driver": "raw", "node-name": "top", "file": "slow"}, **k)
slow = lambda **k: dict({"driver": "delay", "node-name": "slow", "file": "f"}, **k)
node = lambda n: [x for x in c.do("query-named-block-nodes") if x["node-name"] == n][0]
c.do("blockdev-add", driver="null-co", node_name="null", size=1 << 20)
assert hmp("length") == "512 KiB\n"
# offset and size together fit, one after the other they would not
assert c.do("blockdev-reopen", options=[top(offset=524288, size=4096)]) == {}
assert hmp("length") == "4 KiB\n" and "read 4/4" in hmp("read -P 65 0 4")
# the child, read-only and an option change; then the second node refuses: nothing has happened
c.fails("blockdev-reopen", options=[top(file="null", offset=0, size=4096, **{"read-only": True}), slow(read="soon")])
assert hmp("length") == "4 KiB\n" and "read 4/4" in hmp("read -P 65 0 4")
assert node("top")["ro"] is False and "wrote" in hmp("write 512 512")
assert c.do("blockdev-del", node_name="null") == {}, "still in use"
# a driver that refuses what it was given
assert "do not fit" in c.fails("blockdev-reopen", options=[slow(read=0), top(offset=1048576, size=4096)])
assert hmp("length") == "4 KiB\n" and "read 4/4" in hmp("read -P 65 0 4")
E
    expect 0 stop s
}

@test "BLOCK_IMAGE_CORRUPTED" {
    blkproof img create -q -f qcow2 bad.qcow2 1M
    blkproof io -c "write 0 64k" bad.qcow2 >/dev/null
    # the L2 entry of the first cluster points at the header
    l1=$((0x$(hex bad.qcow2 40 8)))
    l2=$((0x$(hex bad.qcow2 $l1 8) & 0x00fffffffffffe00))
    printf '\x80\0\0\0\0\1\0\0' | dd of=bad.qcow2 bs=1 seek=$l2 conv=notrunc status=none
    qmp_serve s --id d bad.qcow2
    qmp_python s <<'E'
out = c.do("human-monitor-command", command_line='qemu-io d "write 0 64k"')
assert "failed" in out, out
data = c.event("BLOCK_IMAGE_CORRUPTED")["data"]
assert data["device"] == "d" and data["fatal"] is True and "msg" in data, data
assert (data["offset"], data["size"]) == (65536, 65536), data # the cluster that the entry points at
E
}

@test "VERIFY_MISMATCH with the diagnosis; verify-query; scrub" {
    pattern_file a.img 1048576
    cp a.img b.img
    flip_bit b.img 70000 3
    qmp_serve s --id d json:'{"driver":"blkverify","on-mismatch":"report","raw":{"driver":"file","filename":"a.img"},"test":{"driver":"raw","file":{"driver":"file","filename":"b.img"}}}'
    qmp_python s <<'E'
assert c.do("verify-query")[0]["mismatches"] == 0
c.do("human-monitor-command", command_line='qemu-io d "read 64k 64k"')
data = c.event("VERIFY_MISMATCH")["data"]
assert data["device"] == "d" and data["first-difference"] == 70000 and data["sector"] == 70000 // 512, data
assert data["diagnosis"] and data["causes"][0]["text"] and data["request"] == "read", data
assert len(json.dumps(data)) < 65536
(v,) = c.do("verify-query", device="d")
assert v["mismatches"] == 1 and v["paused"] is False
r = c.do("scrub")
assert r["mismatches"] == 1 and r["compared-bytes"] + r["skipped-bytes"] == 1 << 20, r
c.fails("scrub", "Cannot find device='x' nor node-name=''", device="x")
E
    expect 1 stop s
}
