# SPDX-License-Identifier: BSD-2-Clause
# QMP: greeting, negotiation, ids, errors, the stream, out of band, many and unkind clients.
load ../lib/common
load ../lib/qmp

setup() {
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M disk.img
}

@test "the greeting, then nothing but qmp_capabilities, then no second one" {
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
c = Client(path, negotiate=False)
q = c.greeting["QMP"]
assert q["capabilities"] == ["oob"], q
assert sorted(q["version"]["qemu"]) == ["major", "micro", "minor"] and all(type(v) is int for v in q["version"]["qemu"].values())
assert type(q["version"]["package"]) is str
c.fails("query-version", "Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound")
c.fails("no-such", "Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound")
c.send('{"exec-oob":"query-version"}')
assert c.reply()["error"]["desc"] == "QMP input member 'exec-oob' is unexpected"
c.fails("qmp_capabilities", "Parameter 'enable[0]' does not accept value 'x'", enable=["x"])
assert c.do("qmp_capabilities") == {}
c.fails("qmp_capabilities", "Capabilities negotiation is already complete, command ignored", "CommandNotFound")
assert c.do("query-version")["qemu"] == q["version"]["qemu"]
E
}

@test "the id comes back as it was, whatever it is; without one there is none" {
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
for id in ["1", "0", "-5", "9223372036854775807", "null", "true", '"x"', '"\\u00e9\\ud83d\\ude00"', '[1,{"a":[]}]', '{"b":{}}', "1.5"]:
    c.send('{"execute":"query-status","id":%s}' % id)
    r = c.reply()
    assert "return" in r and r["id"] == json.loads(id), (id, r)
c.send('{"execute":"query-status","id":18446744073709551616}')
assert c.reply()["id"] == 18446744073709551616.0
c.send('{"execute":"no","id":7}')
assert c.reply() == {"id": 7, "error": {"class": "CommandNotFound", "desc": "The command no has not been found"}}
c.send('{"execute":"query-status","arguments":{"x":1},"id":8}')
assert c.reply() == {"id": 8, "error": {"class": "GenericError", "desc": "Parameter 'x' is unexpected"}}
assert "id" not in c.execute("query-status")
E
}

@test "what is wrong with a message is said in QEMU's words" {
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
for text, desc in [
    ("123 ", "QMP input must be a JSON object"),
    ('"abc"', "QMP input must be a JSON object"),
    ("[1,2]", "QMP input must be a JSON object"),
    ("{}", "QMP input lacks member 'execute'"),
    ('{"execute":1}', "QMP input member 'execute' must be a string"),
    ('{"execute":"query-status","arguments":3}', "QMP input member 'arguments' must be an object"),
    ('{"execute":"query-status","foo":3}', "QMP input member 'foo' is unexpected"),
    ('{"exec-oob":"query-status"}', "QMP input member 'exec-oob' is unexpected"),
    ('{"execute": foo}', "JSON parse error, invalid keyword 'foo'"),
    ('{"execute":"blockdev-add","arguments":{}}', "Parameter 'driver' is missing"),
    ('{"execute":"blockdev-add","arguments":{"driver":"foo"}}', "Parameter 'driver' does not accept value 'foo'"),
    ('{"execute":"blockdev-del","arguments":{"node-name":3}}', "Invalid parameter type for 'node-name', expected: string"),
    ('{"execute":"block_resize","arguments":{"device":"disk0","size":"a"}}', "Invalid parameter type for 'size', expected: integer"),
    ('{"execute":"block_resize","arguments":{"device":"disk0","size":1.5}}', "Invalid parameter type for 'size', expected: integer"),
    ('{"execute":"block_resize","arguments":{"device":"disk0","size":99999999999999999999}}', "Invalid parameter type for 'size', expected: integer"),
    ('{"execute":"blockdev-reopen","arguments":{"options":[3]}}', "Invalid parameter type for 'options[0]', expected: object"),
]:
    c.send(text)
    r = c.reply()
    assert r == {"error": {"class": "GenericError", "desc": desc}}, (text, r)
assert c.do("query-status")["running"] is True
E
}

@test "JSON comes as a stream: no newline, CRLF, single quotes, many in one packet, one byte at a time" {
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
c.send("{'execute':'query-status','id':'it\\'s \"x\"'}")
assert c.reply()["id"] == "it's \"x\""
c.send('{"execute":"query-status","id":1}{"execute":"query-status","id":2}\r\n\r\n  {"execute":\t"query-status"\n,"id":3}')
assert [c.reply()["id"] for _ in range(3)] == [1, 2, 3]
for b in b'{"execute" : "query-status", "id": {"a": [1, 2.5e3, "\\u0041\\\\"]}}\r\n':
    c.send(bytes([b]))
assert c.reply()["id"] == {"a": [1, 2500, "A\\"]}
c.send('{"execute":"query-status","id":"%s"}' % ("y" * 1000000))
assert c.reply()["id"] == "y" * 1000000
E
}

@test "garbage gets an error each, and the connection goes on" {
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
ok = b'{"execute":"query-status","id":"ok"}'
def errors(data):
    c.send(data + ok)
    n = 0
    while True:
        r = c.reply()
        if r.get("id") == "ok":
            return n
        assert r["error"]["class"] == "GenericError" and "id" not in r, r
        n += 1
# how many errors: as qemu-storage-daemon 7.2 gives (tests/interop/qmp-peer.bats asks it)
assert errors(b"\xff") == 1
assert errors(b"}") == 1
assert errors(b"]]]") == 3
assert errors(b'{"execute": @}') == 2
assert errors(b'{"a": "x\n"}') == 2
assert errors(b'{"execute":"query-status"\xff') == 1
assert errors(b"\x00\x00") == 2
assert errors(b'{"a"]') == 1
assert errors(b'{"a":01}') == 2
assert errors(b'{"execute":"query-status","execute":"query-status"}') == 1
assert errors(b'{"execute":"query-status","id":"\x80"}') == 1
assert errors(b'{"execute":"query-status","id":"\\ud800"}') == 1
assert errors(b"1abc ") == 2
assert errors(b"HELO\r\n") == 1
import random
random.seed(5)
for _ in range(200):
    errors(bytes(random.randrange(256) for _ in range(random.randrange(1, 200))) + b"\xff\n")
E
}

@test "limits: nesting, size, tokens; each is one error, and ends with the line" {
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
def one(data, desc):
    c.send(data + b"\n" + b'{"execute":"query-status","id":1}')
    assert c.reply() == {"error": {"class": "GenericError", "desc": desc}}
    assert c.reply()["id"] == 1
one(b"[" * 129, "JSON nesting depth limit exceeded")
one(b"[" * 1000000, "JSON nesting depth limit exceeded")
one(b'{"a":' * 5000, "JSON nesting depth limit exceeded")
one(b'{"execute":"' + b"x" * (5 << 20), "JSON token size limit exceeded")
one(b"[" + b"1," * 300000, "JSON token count limit exceeded")
c.send(b"[" * 128 + b"]" * 128)
assert c.reply()["error"]["desc"] == "QMP input must be a JSON object"
c.send(b'{"execute":"query-status","id":' + b"[" * 120 + b"]" * 120 + b"}")
assert "return" in c.reply()
E
}

@test "out of band: a command overtakes one that waits, where it may" {
    qmp_serve s -f raw fault::disk.img
    qmp_python s <<'E'
c = Client(path, enable=["oob"])
c.do("fault-add", rules={"id": "a", "action": "error", "op": "discard"})
c.send('{"execute":"wait-for","arguments":{"id":"a"},"id":"slow"}{"execute":"query-version","id":"behind"}')
c.send('{"exec-oob":"query-faults","id":"quick"}')
assert c.reply()["id"] == "quick"
for text, desc in [
    ('{"exec-oob":"query-version","id":1}', "The command query-version does not support OOB"),
    ('{"exec-oob":"qmp_capabilities","id":1}', "The command qmp_capabilities does not support OOB"),
    ('{"exec-oob":"x","execute":"y","id":1}', "QMP input member 'execute' clashes with 'exec-oob'"),
    ('{"exec-oob":1,"id":1}', "QMP input member 'exec-oob' must be a string")]:
    d = Client(path, enable=["oob"])
    d.send(text)
    assert d.reply() == {"id": 1, "error": {"class": "GenericError", "desc": desc}}, text
c.send('{"exec-oob":"fault-remove","arguments":{"id":"a"},"id":"end"}')
replies = [c.reply() for _ in range(3)]
assert [r["id"] for r in replies] == ["end", "slow", "behind"] and "error" in replies[1], replies
E
}

@test "a client that closes its half is answered; one that dies mid-command leaves everybody else alone" {
    qmp_serve s -f raw fault::disk.img
    qmp_python s <<'E'
d = Client(path, negotiate=False)
d.send('{"execute":"qmp_capabilities"}{"execute":"query-status"}')
d.sock.shutdown(socket.SHUT_WR)
assert d.reply() == {"return": {}} and d.reply()["return"]["running"] is True and d.message() is None
c.do("fault-add", rules={"id": "a", "action": "error", "op": "discard"})
for cut in ['{"execute":"wait-for","arguments":{"id":"a"}}', '{"execute":"fault-add","argum', "", '{"execute":"query-status"}' * 100]:
    d = Client(path)
    d.send(cut)
    d.close()
assert c.do("query-faults")[0]["rules"][0]["id"] == "a"
E
    expect 0 stop s # and no command waits on
    equal "$(cat s.err)" ""
}

@test "a hundred clients at once, over several sockets" {
    qmp_serve s --qmp "unix:$PWD/second.qmp" --qmp tcp:127.0.0.1:0 --json -f raw disk.img
    wait_for_line s.out '"event":"ready"'
    tcp=$(grep -oE 'tcp:127.0.0.1:[0-9]+' s.out)
    [ "$(stat -c %a second.qmp)" = 600 ]
    TCP=$tcp qmp_python s <<'E'
clients = [Client([path, "second.qmp", os.environ["TCP"]][i % 3]) for i in range(100)]
for i, d in enumerate(clients):
    d.send('{"execute":"query-status","id":%d}' % i)
for i, d in enumerate(clients):
    assert d.reply()["id"] == i
c.do("stop")
for d in clients:
    assert d.event("STOP")["timestamp"]["seconds"] > 1000000000
E
}

@test "a reader of 64 KiB lines, and one that wants CRLF, get along with every query" {
    qmp_serve s -f raw fault::disk.img
    qmp_python s <<'E'
for q in "query-version", "query-commands", "query-status", "query-block", "query-named-block-nodes", "query-block-exports", "query-faults", \
         "query-states", "verify-query", "query-qmp-schema":
    c.send('{"execute":"%s"}\n' % q)
    line = c.line() # which looks for CRLF, and for nothing else that ends a line
    assert len(line) < 65536 and "return" in json.loads(line), (q, len(line))
E
}

@test "a client that floods and never reads is held up, and costs a bounded amount of memory" {
    qmp_serve s -f raw disk.img
    PID=$(pid s) qmp_python s <<'E'
rss = lambda: int(open("/proc/%s/statm" % os.environ["PID"]).read().split()[1]) * 4096
before = rss()
d = Client(path)
d.sock.setblocking(False)
sent, request = 0, b'{"execute":"query-qmp-schema"}' * 100
import select
while sent < 64 << 20 and select.select([], [d.sock], [], 2)[1]: # until it is not read any more
    sent += d.sock.send(request)
assert sent < 8 << 20, sent
assert c.do("query-status")["running"] is True
assert rss() - before < 64 << 20, rss() - before
for _ in range(3): # events, meanwhile
    c.do("stop"); c.do("cont")
d.sock.settimeout(60)
assert "return" in d.reply()
d.close()
assert c.do("query-status")["running"] is True
E
}

@test "a client that does not read misses events, and is told how many" {
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
d = Client(path)
d.send('{"execute":"query-qmp-schema"}' * 40)
for _ in range(20): # the server is at it
    c.do("query-status")
c.do("stop"); c.do("cont"); c.do("stop"); c.do("cont")
for _ in range(40):
    assert "return" in d.reply()
assert d.event("EVENTS_LOST")["data"]["count"] == 4
assert d.events == []
c.do("stop")
assert d.event("STOP")
E
}

@test "addresses: this machine only, unless asked for in so many words" {
    refuse() { # SENTENCE ADDRESS
        expect 1 blkproof serve --nbd "unix:$PWD/n" --qmp "$2" -f raw disk.img
        equal "$output" "blkproof: $1"
    }
    for a in tcp::4444 tcp:0.0.0.0:4444,server,nowait; do
        expect 1 blkproof serve --nbd "unix:$PWD/n" --qmp "$a" -f raw disk.img
        matches "$output" "open to other machines: use localhost, or say so with allow-remote=on$"
    done
    refuse "QMP on 'tcp:localhost:4444,server=off': 'server=off': a server is all that this can be" tcp:localhost:4444,server=off
    refuse "QMP on 'unix:q,wait=on': 'wait=on': it never waits for a client: say wait=off" unix:q,wait=on
    refuse "QMP on 'unix:q,x': 'x' is none of server=on, wait=off, allow-remote=on" unix:q,x
    refuse "listen on 'pigeon': expected unix:PATH or tcp:HOST:PORT" pigeon
    [ ! -e n ]
    bg s blkproof serve --nbd "unix:$PWD/n" --qmp tcp::0,server,nowait,allow-remote=on -f raw disk.img
    wait_for_socket "$PWD/n" s
    expect 0 stop s
}

@test "a web page's browser gets nowhere" {
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
d = Client(path, negotiate=False)
d.send('POST / HTTP/1.1\r\nContent-Type: text/plain\r\n\r\n{"execute":"qmp_capabilities"}{"execute":"quit"}')
try:
    assert d.message() is None
except ConnectionResetError:
    pass
assert c.do("query-status")["running"] is True
E
    matches "$(cat s.err)" "speaks HTTP: disconnected"
}

@test "quit: SHUTDOWN, the answer, the end; all clients hear it" {
    qmp_serve s -f raw disk.img
    qmp_python s <<'E'
d = Client(path)
assert c.do("quit") == {}
for x in c, d:
    assert x.event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-qmp-quit"}
    assert x.message() is None
E
    expect 0 reap s
    equal "$(cat s.err)" ""
    [ ! -e "$(qmp_sock s)" ]
}

@test "a signal says SHUTDOWN, too" {
    qmp_serve s -f raw disk.img
    PID=$(pid s) qmp_python s <<'E'
import signal
os.kill(int(os.environ["PID"]), signal.SIGTERM)
assert c.event("SHUTDOWN")["data"]["reason"] == "host-signal"
assert c.message() is None
E
    expect 0 reap s
}
