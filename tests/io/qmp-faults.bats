# SPDX-License-Identifier: BSD-2-Clause
# QMP's commands about faults: blkdebug-set-rules as the patch of 2014 has it, and our own.
load ../lib/common
load ../lib/qmp

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 4M disk.img
}

HELPERS='
hmp = lambda line, disk="d": c.do("human-monitor-command", command_line="qemu-io %s \"%s\"" % (disk, line))
broken = lambda line, disk="d": "failed" in hmp(line, disk)
rules = lambda disk="d": c.do("query-faults", device=disk)[0]["rules"]
'

@test "the patch's own line: the disk is broken, cleared it works again" {
    blkproof img create -q -f qcow2 debian.qcow2 4M
    qmp_serve s --id ide0-hd0 blkdebug:/dev/null:debian.qcow2
    qmp_python s <<E
$HELPERS
disk = "ide0-hd0"
assert not broken("write 0 64k", disk)
c.send('{"execute":"blkdebug-set-rules","arguments":{"device":"ide0-hd0","rules":[{"event":"write_aio",'
       '"type":"inject-error","immediately":1,"once":0,"state":1}]}}')
assert c.reply() == {"return": {}}
assert broken("write 0 64k", disk) and broken("write 0 64k", disk)
data = c.event("FAULT_INJECTED")["data"]
assert data["device"] == disk and data["op"] == "write" and data["errno"] == "EIO", data
assert c.do("blkdebug-query-rules", device=disk)["rules"][0]["fired"] >= 2
assert type(c.do("blkdebug-clear-rules", device=disk)["operation"]) is int
assert not broken("write 0 64k", disk) and not broken("read 0 64k", disk)
assert rules(disk) == []
E
    expect 0 stop s
}

@test "each mistake of the patch's users gets its answer, changes nothing, and the server survives" {
    blkproof img create -q -f qcow2 debian.qcow2 4M
    qmp_serve s --id d a=blkdebug:/dev/null:debian.qcow2 --id plain --format raw b=disk.img
    qmp_python s <<E
$HELPERS
good = {"event": "write_aio", "type": "inject-error"}
c.do("blkdebug-set-rules", device="d", rules=[dict(good, event="read_aio")])
before = rules()
for desc, cls, args in [
    ("Parameter 'device' is missing", "GenericError", {"rules": [good]}),
    ("Device 'x' not found", "DeviceNotFound", {"device": "x", "rules": [good]}),
    ("BlockDriver (file) isn't blkdebug", "GenericError", {"device": "plain", "rules": [good]}),
    ("Parameter 'rules' is missing", "GenericError", {"device": "d"}),
    ("Invalid parameter type for 'rules', expected: list", "GenericError", {"device": "d", "rules": {}}),
    ("Invalid parameter type for 'rules', expected: list", "GenericError", {"device": "d", "rules": "x"}),
    ("Invalid parameter type for 'member of rules', expected: dict", "GenericError", {"device": "d", "rules": [good, 3]}),
    ("Invalid parameter type for 'device', expected: string", "GenericError", {"device": 3, "rules": [good]}),
    ("unknown type of rule: x", "GenericError", {"device": "d", "rules": [dict(good, type="x")]}),
    ("Parameter 'type' is missing", "GenericError", {"device": "d", "rules": [{"event": "write_aio"}]}),
    ("Parameter 'event' is missing", "GenericError", {"device": "d", "rules": [{"type": "inject-error"}]}),
    ("faild to set state", "GenericError", {"device": "d", "rules": [dict(good, state="x")]}),
    ("faild to set sector", "GenericError", {"device": "d", "rules": [dict(good, sector=1.5)]}),
    ("faild to set once", "GenericError", {"device": "d", "rules": [dict(good, once=2)]}),
    ("faild to set event", "GenericError", {"device": "d", "rules": [dict(good, event=7)]}),
    (None, "GenericError", {"device": "d", "rules": [dict(good, event="no_such_event")]}),
    (None, "GenericError", {"device": "d", "rules": [good, dict(good, bogus=1)]}),
    (None, "GenericError", {"device": "d", "rules": [dict(good, sector=-7)]}),
    (None, "GenericError", {"device": "d", "rules": [dict(good, iotype="x")]}),
    ("Parameter 'mode' does not accept value 'x'", "GenericError", {"device": "d", "rules": [good], "mode": "x"}),
]:
    c.fails("blkdebug-set-rules", desc, cls, **args)
    assert rules() == before, args
assert "no_such_event" in c.fails("blkdebug-set-rules", device="d", rules=[dict(good, event="no_such_event")])
E
    expect 0 stop s
}

@test "beyond the patch: node names, many rules, booleans or integers, iotype, append or replace, set-state" {
    blkproof img create -q -f qcow2 debian.qcow2 4M
    qmp_serve s --id d blkdebug:/dev/null:debian.qcow2
    qmp_python s <<E
$HELPERS
node = c.do("query-faults")[0]["node-name"]
hmp("write 0 128k")
r = lambda **k: dict({"event": "write_aio", "type": "inject-error"}, **k)
number = c.do("blkdebug-set-rules", node_name=node, rules=[r(once=True, errno=28), r(event="read_aio", once=1, immediately=False)])["operation"]
assert number == c.do("query-faults")[0]["next-operation"]
assert len(rules()) == 2
assert hmp("write 0 64k") == "write failed: No space left on device\n" and not broken("write 0 64k")
assert hmp("read 0 64k") == "read failed: Input/output error\n" and not broken("read 0 64k")
assert "operation" in c.do("blkdebug-set-rules", device="d", mode="append", rules=[r(state=2), {"event": "flush_to_os", "type": "set-state", "new_state": 2}])
assert len(rules()) == 4
assert not broken("write 0 64k")
hmp("flush")
assert c.do("query-states")[0]["state"] == 2 and broken("write 0 64k")
c.do("blkdebug-set-rules", device="d", mode="replace", rules=[r(event="none", iotype="flush")])
assert len(rules()) == 1 and c.do("query-states")[0]["state"] == 1
# what the patch could have been asked is answered as it did; what it could not, with the number
inert, move = r(event="none"), {"event": "none", "type": "set-state"}
for args, empty in [({"rules": []}, True), ({"rules": [inert, move]}, True), ({"rules": [inert, inert]}, False),
                    ({"rules": [dict(inert, iotype="read")]}, False), ({"rules": [inert], "mode": "replace"}, False)]:
    assert (c.do("blkdebug-set-rules", device="d", **args) == {}) == empty, args
c.do("blkdebug-set-rules", device="d", mode="replace", rules=[r(event="none", iotype="flush")])
c.do("blkdebug-set-rules", device="d", rules=[]) # as the patch: only the state is new
assert len(rules()) == 1
c.do("blkdebug-clear-rules", device="d")
E
    expect 0 stop s
}

@test "fault-add, -set, -remove, query-faults: replies name the operation from which they hold" {
    qmp_serve s --id d -f raw fault::disk.img
    qmp_python s <<E
$HELPERS
hmp("read 0 4k")
op = c.do("fault-add", rules={"id": "a", "op": "write", "action": "error", "errno": "EROFS"})["operation"]
assert op == 2 == c.do("query-faults")[0]["next-operation"]
assert hmp("write 0 4k") == "write failed: Read-only file system\n"
(rule,) = rules()
assert (rule["fired"], rule["matched"], rule["last-fired"]) == (1, 1, op), rule
c.do("fault-set", id="a", set={"count": 2})
assert broken("write 0 4k") and not broken("write 0 4k")
assert c.event("FAULT_EXHAUSTED")["data"]["rule"] == "a"
assert rules()[0]["exhausted"] is True
c.do("fault-add", before="a", rules=[{"id": "b", "action": "pass"}, {"id": "c", "action": "pass", "op": "read"}])
assert [x["id"] for x in rules()] == ["b", "c", "a"]
c.do("fault-add", replace=True, rules=[{"id": "z", "action": "pass"}])
assert [x["id"] for x in rules()] == ["z"]
c.do("fault-remove", id="z")
for desc, command, args in [
    ("Parameter 'id' is missing: which rule? (or 'tag', or 'all': true)", "fault-remove", {}),
    ("Parameter 'rules' is missing", "fault-add", {}),
    ("Invalid parameter type for 'rules', expected: array", "fault-add", {"rules": "x"}),
    ("Parameters 'before' and 'replace' exclude each other", "fault-add", {"rules": [], "before": "x", "replace": 1}),
    ("Invalid parameter type for 'set', expected: object", "fault-set", {"id": "a", "set": []}),
    (None, "fault-set", {"id": "a", "set": {"count": 2}}),
    (None, "fault-remove", {"id": "none"}),
    (None, "fault-add", {"rules": [{"action": "error"}, {"action": "bogus"}]}),
    (None, "fault-add", {"rules": [{"action": "error"}, 7]}),
    (None, "fault-add", {"rules": {"action": "error"}, "before": "none"}),
    (None, "fault-add", {"device": "none", "rules": {"action": "error"}}),
]:
    assert c.fails(command, desc, **args)
    assert rules() == [], (command, args)
E
}

@test "fault-transaction: many rules, many disks, all or nothing" {
    truncate -s 1M two.img
    qmp_serve s -f raw a=fault::disk.img b=fault::two.img
    qmp_python s <<E
$HELPERS
add = lambda disk, id, **k: dict({"type": "add", "device": disk, "rules": {"id": id, "action": "error", "op": "read"}}, **k)
r = c.do("fault-transaction", actions=[add("a", "x"), add("b", "y"), {"type": "state", "device": "b", "state": 7}])
assert [sorted(x) for x in r] == [["node-name", "operation"]] * 3 and r[1]["node-name"] == r[2]["node-name"] != r[0]["node-name"]
assert broken("read 0 4k", "a") and broken("read 0 4k", "b")
assert [x["state"] for x in c.do("query-states")] == [1, 7]
for actions in [
    [add("a", "z"), add("b", "y")],                                             # the id is in use
    [{"type": "clear", "device": "a"}, {"type": "remove", "device": "b", "id": "none"}],
    [{"type": "clear", "device": "a"}, {"type": "clear", "device": "none"}],
    [{"type": "clear", "device": "a"}, {"type": "clear"}],                      # which?
    [{"type": "clear", "device": "a"}, {"type": "add", "device": "b"}],         # rules
    [{"type": "clear", "device": "a"}, {"type": "set", "device": "b", "set": {}}],
    [{"type": "clear", "device": "a"}, {"type": "bogus", "device": "b"}],
    [],
    [{"type": "clear", "device": "a"}] * 1025,
]:
    assert c.fails("fault-transaction", actions=actions)
    assert [x["id"] for x in rules("a") + rules("b")] == ["x", "y"], actions
c.do("fault-transaction", actions=[{"type": "set", "device": "a", "id": "x", "set": {"errno": "EROFS"}}, {"type": "replace", "device": "b", "rules": []}])
assert hmp("read 0 4k", "a") == "read failed: Read-only file system\n" and not broken("read 0 4k", "b")
c.do("fault-transaction", actions=[{"type": "remove", "device": "a", "id": "x"}, {"type": "clear", "device": "b"}])
assert rules("a") == rules("b") == []
E
}

@test "hang: events, what is held, release of each kind; a disk that hangs hurts neither monitor nor end" {
    qmp_serve s --id d -f raw fault::disk.img
    qmp_python s <<E
$HELPERS
c.do("fault-add", rules={"id": "h", "tag": "t", "op": "write", "action": "hang"})
def client():
    return subprocess.Popen(["blkproof", "io", "-f", "raw", "-t", "writeback", "-c", "write 0 4k", nbd], stdout=subprocess.PIPE, text=True)
for args, out in [({}, "wrote 4096/4096"), ({"outcome": "error"}, "Input/output error"), ({"outcome": "error", "errno": 28}, "No space left"),
                  ({"outcome": "error", "errno": "EPERM"}, "not permitted")]:
    fired = rules()[0]["fired"]
    io = client()
    assert c.do("wait-for", id="h", count=fired + 1)["reached"] is True
    (held,) = c.do("query-faults")[0]["held"]
    assert held["tag"] == "t" and held["rule"] == "h" and held["op"] == "write" and held["bytes"] == 4096, held
    assert c.do("query-status")["in-flight"] >= 1
    assert c.do("hang-release", tag="t", **args) == {"released": 1}
    assert out in io.communicate()[0]
assert c.event("HANG_BEGIN")["data"]["rule"] == "h"
end = c.event("HANG_END")["data"]
assert end["outcome"] == "complete" and end["held-ns"] >= 0, end
for desc, args in [("no fault node has the tag 'none'", {"tag": "none"}), (None, {"errno": "EBOGUS"}), (None, {"errno": 0}), (None, {"errno": 1.5}),
                   ("Parameter 'outcome' does not accept value 'x'", {"outcome": "x"})]:
    c.fails("hang-release", desc, **args)
assert c.do("hang-release") == {"released": 0}
fired = rules()[0]["fired"]
io = client()
c.do("wait-for", id="h", count=fired + 1)
assert c.do("stop") == {} # gives up waiting for it
assert c.do("query-status")["in-flight"] >= 1
assert c.do("cont") == {}
c.do("fault-remove", id="h") # completes what it held
assert "wrote 4096/4096" in io.communicate()[0]
c.do("fault-add", rules={"id": "h", "tag": "t", "op": "write", "action": "hang"})
io = client()
c.do("wait-for", id="h")
E
    expect 0 stop s
    equal "$(cat s.err)" ""
}

@test "wait-for: fired or matched, count, time-out, removed meanwhile" {
    qmp_serve s --id d -f raw fault::disk.img
    qmp_python s <<E
$HELPERS
c.do("fault-add", rules={"id": "a", "op": "read", "action": "error", "nth": 2})
hmp("read 0 4k")
assert c.do("wait-for", id="a", counter="matched") == {"reached": True, "matched": 1, "fired": 0, "last-matched": 1, "last-fired": 0}
assert c.do("wait-for", id="a", timeout=0)["reached"] is False
assert c.do("wait-for", id="a", timeout="1ms")["reached"] is False
assert c.do("wait-for", id="a", count=0)["reached"] is True
d = Client(path)
d.send('{"execute":"wait-for","arguments":{"id":"a"}}')
e = Client(path)
e.send('{"execute":"wait-for","arguments":{"id":"a","count":2}}')
hmp("read 0 4k")
assert d.reply()["return"]["fired"] == 1
c.do("fault-remove", id="a")
assert "removed" in e.reply()["error"]["desc"]
for args in {"timeout": -1}, {"timeout": "soon"}, {"timeout": []}, {"count": -1}, {"counter": "x"}, {"id": "none"}:
    c.fails("wait-for", **dict({"id": "a"}, **args))
E
}

@test "events that come by the thousand are limited, and say what they stand for" {
    qmp_serve s --id d -f raw fault::disk.img
    qmp_python s <<E
$HELPERS
c.do("fault-add", rules={"id": "a", "op": "read", "action": "error"})
for _ in range(200):
    hmp("read 0 4k")
c.do("quit")
c.event("SHUTDOWN") # before it comes what is held back: nobody has to wait for the second to pass
got = [e["data"] for e in c.events if e["event"] == "FAULT_INJECTED"]
assert got[0]["fired"] == 1 and "suppressed" not in got[0], got[0]
assert sum(1 + e.get("suppressed", 0) for e in got) == 200 and got[-1]["fired"] == 200, got # all are accounted for
assert len(got) < 100, len(got)
E
    expect 0 reap s
}

@test "every event has the members that its table promises" {
    qmp_serve s --id d -f raw fault::disk.img
    qmp_python s <<E
$HELPERS
schema = {x["name"]: x for x in c.do("query-qmp-schema")}
c.do("fault-add", rules=[{"id": "s", "op": "read", "action": "state", "new-state": 3}, {"id": "d", "op": "read", "action": "delay", "delay": "1ms"},
                         {"id": "e", "op": "read", "count": 1, "action": "error"}])
hmp("read 0 4k")
c.do("state-set", state=5)
c.do("stop"); c.do("cont")
for name in "STATE_CHANGED", "FAULT_INJECTED", "FAULT_EXHAUSTED", "STOP", "RESUME":
    e = c.event(name)
    members = {m["name"]: "default" not in m for m in schema[schema[name]["arg-type"]]["members"]}
    data = e.get("data", {})
    assert set(data) <= set(members) and all(k in data for k, required in members.items() if required), (name, data, members)
E
}
