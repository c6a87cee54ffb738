# SPDX-License-Identifier: BSD-2-Clause
# The same bytes to our QMP server and to qemu-storage-daemon's, and the answers held against each other.
load ../lib/common
load ../lib/qmp

setup() {
    need qemu-storage-daemon
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M disk.img
    qmp_serve s --id d --image-opts driver=null-co,node-name=n9,size=65536
    bg qsd qemu-storage-daemon --chardev "socket,id=c,path=$PWD/qsd.qmp,server=on,wait=off" --monitor c \
        --blockdev null-co,node-name=n9,size=65536 \
        --nbd-server "addr.type=unix,addr.path=$PWD/qsd.nbd" --export type=nbd,id=d,node-name=n9,name=,writable=on
    wait_for_socket "$PWD/qsd.qmp" qsd
}

PAIR='
theirs = "qsd.qmp"
def both(data, negotiate=True, n=None):
    """What each answers to data, up to the answer to a last command of our own."""
    out = []
    for p in path, theirs:
        d = Client(p, negotiate=negotiate)
        d.send(data)
        d.send(b"\xff\n" + b"{\"execute\":\"query-version\",\"id\":\"the end\"}")
        replies = []
        while True:
            r = d.reply()
            if r.get("id") == "the end":
                break
            replies.append(r)
        assert replies.pop()["error"]["desc"].startswith("JSON parse error, stray") # the 0xff
        d.close()
        out.append(replies)
    return out
'

@test "garbage, limits of words, and how many answers there are" {
    qmp_python s <<E
$PAIR
said = 0
for data in [rb'{"execute": @}', rb'{"execute": foo}', b'{"a":1', b'\xff{"execute":"nope"}', b'{"a": "x\n"}', b'123 ', b'"abc"', b'[1,2]',
             b'{"a":1,}', b'}', b']]]', b'{"a"]', b'{"execute":"query-version"\xff', b'{"execute":1}', b'{"exec-oob":"query-version"}',
             b'{"execute":"query-version","arguments":{"x":1}}', b'{"execute":"query-version","arguments":3}', b'{"execute":"query-version","foo":3}',
             b'{"foo":3}', b'{}', b'{"execute":"nope"}', b'{"execute":"qmp_capabilities"}', b'{"a":01}', b'-x ', b'1.x ', b'1abc ', b'tru ', b'trueX ',
             b'1E+ ', b'%d ', b'"a\\\\q"', b"'a", b'{"execute" "x"}', b'{1:2}', b'{"a":1 "b":2}', b'[1 2]', b'{"a":[1,]}', b"\x00\x00{}", b'@\t@ x\n',
             b'HOST x\r\n\r\n', b'[' * 2000 + b'\n', b'{"execute":"query-version","execute":"query-version"}',
             b'{"execute":"query-version","id":"\\\\ud800"}', b'{"execute":"query-version","id":"\x80"}']:
    ours, qemus = both(data)
    if data.startswith(b"[["):
        assert ours[0]["error"] == qemus[0]["error"] # we say it once
        continue
    assert len(ours) == len(qemus), (data, ours, qemus)
    for o, q in zip(ours, qemus):
        assert ("error" in o) == ("error" in q) and o.get("id") == q.get("id"), (data, o, q)
        if "error" in o:
            assert o["error"]["class"] == q["error"]["class"], (data, o, q)
            # what is wrong with the grammar is said in jansson's words
            if o["error"]["desc"] == q["error"]["desc"]:
                said += 1
            else:
                assert o["error"]["desc"].startswith("JSON parse error, ") and q["error"]["desc"].startswith("JSON parse error, "), (data, o, q)
assert said > 25, said
E
}

@test "ids" {
    qmp_python s <<E
$PAIR
for id in [b'1', b'-5', b'null', b'true', b'"\xc3\xa9"', b'[1,{"a":null}, true, -1.5e3]', b'{"b":{}}', b'18446744073709551616', b"'it\\\\'s'"]:
    ours, qemus = both(b'{"execute":"query-commands","id":' + id + b'}')
    assert ours[0]["id"] == qemus[0]["id"], (id, ours, qemus)
E
}

@test "before negotiation, out of band" {
    qmp_python s <<E
$PAIR
def talk(p, lines):
    d = Client(p, negotiate=False)
    out = [sorted(d.greeting["QMP"]), d.greeting["QMP"]["capabilities"], sorted(d.greeting["QMP"]["version"]["qemu"])]
    for l in lines:
        d.send(l)
        r = d.reply()
        out.append(r if "error" in r else (sorted(r), r.get("id")))
    return out
lines = ['{"execute":"query-version"}', '{"execute":"nope"}', '{"exec-oob":"query-version"}', '{"execute":"qmp_capabilities","arguments":{"enable":3}}',
         '{"execute":"qmp_capabilities","arguments":{"enable":["oob","oob"]}}', '{"exec-oob":"query-version","id":1}', '{"exec-oob":"nope","id":1}',
         '{"exec-oob":1,"id":1}', '{"exec-oob":"x","execute":"y","id":1}', '{"exec-oob":"qmp_capabilities","id":1}', '{"execute":"query-version","id":2}']
assert talk(path, lines) == talk(theirs, lines)
E
}

@test "the words of commands about nodes and exports" {
    qmp_python s <<E
$PAIR
cmd = lambda execute, **a: json.dumps({"execute": execute, "arguments": {k.replace("_", "-"): v for k, v in a.items()}}).encode()
for data in [cmd("blockdev-add", driver="foo"), cmd("blockdev-add"), cmd("blockdev-add", driver="null-co"), cmd("blockdev-add", driver="null-co", node_name="a b"),
             cmd("blockdev-add", driver="null-co", node_name="n9"), cmd("blockdev-add", driver=3), cmd("blockdev-del", node_name=3), cmd("blockdev-del"),
             cmd("blockdev-del", node_name="q0"), cmd("block-export-del", id="q0"), cmd("block-export-del", id="q0", mode="x"),
             cmd("block-export-add", type="foo"), cmd("block-export-add", type="nbd", id="9", node_name="n9"), cmd("block-export-add", type="nbd", id="e", node_name="x"),
             cmd("block-export-add", type="nbd", id="d", node_name="n9"), cmd("block-export-add", type="nbd", id="e", node_name="n9", name=""),
             cmd("nbd-server-start", addr={"type": "unix"}), cmd("nbd-server-start", addr={"type": "unix", "data": {"path": "x"}}),
             cmd("nbd-server-start", addr={"type": "inet", "data": {"host": "127.0.0.1"}}),
             b'{"execute":"block_resize","arguments":{"node-name":"n9","size":"a"}}', b'{"execute":"block_resize","arguments":{"node-name":"n9","size":-1}}',
             b'{"execute":"block_resize","arguments":{"node-name":"n9","size":1.5}}', b'{"execute":"block_resize","arguments":{"size":1}}',
             b'{"execute":"block_resize","arguments":{"device":"x","size":1}}', b'{"execute":"block_resize","arguments":{"node-name":"x","size":1}}',
             cmd("blockdev-reopen", options=3), cmd("blockdev-reopen", options=[3]), cmd("blockdev-reopen", options=[{"driver": "null-co", "node-name": "zz"}]),
             cmd("blockdev-reopen", options=[{"driver": "null-co"}]), cmd("blockdev-reopen", options=[{"driver": "null-co", "node-name": "n9", "size": 4096}]),
             cmd("blockdev-reopen", options=[{"driver": "null-co", "node-name": "n9", "size": 65536}])]:
    ours, qemus = both(data)
    assert ours == qemus, "%s\\n%s\\n%s" % (data, ours, qemus)
E
}

@test "the shape of answers" {
    qmp_python s <<E
q = Client("qsd.qmp")
def shape(v):
    return {k: shape(x) for k, x in v.items()} if isinstance(v, dict) else type(v).__name__
assert shape(c.do("query-version")) == shape(q.do("query-version"))
(o,), (p,) = c.do("query-named-block-nodes"), q.do("query-named-block-nodes")
assert set(o) == set(p), (sorted(o), sorted(p))
for k in o:
    assert type(o[k]) == type(p[k]), k
for k in "ro", "node-name", "encrypted", "detect_zeroes", "backing_file_depth", "cache", "write_threshold", "iops":
    assert o[k] == p[k], k
assert set(p["image"]) - {"actual-size"} <= set(o["image"]), (o["image"], p["image"])
(o,), (p,) = c.do("query-block-exports"), q.do("query-block-exports")
assert set(p) <= set(o) and all(o[k] == p[k] for k in p), (o, p)
ours, theirs = ({x["name"]: x for x in y.do("query-qmp-schema")} for y in (c, q))
for name in "block-export-del", "blockdev-del", "block_resize", "query-block", "BLOCK_EXPORT_DELETED":
    a, b = ours[name], theirs[name]
    assert a["meta-type"] == b["meta-type"]
    assert sorted(m["name"] for m in ours[a["arg-type"]]["members"]) == sorted(m["name"] for m in theirs[b["arg-type"]]["members"]), name
a, b = ours[ours["block-export-del"]["arg-type"]], theirs[theirs["block-export-del"]["arg-type"]]
mode = lambda s, t: [(m.get("default", 0), s[m["type"]]["values"]) for m in t["members"] if m["name"] == "mode"]
assert mode(ours, a) == mode(theirs, b)
c.do("block-export-del", id="d"), q.do("block-export-del", id="d")
a, b = c.event("BLOCK_EXPORT_DELETED"), q.event("BLOCK_EXPORT_DELETED")
assert shape(a) == shape(b) and a["data"] == b["data"]
E
}
