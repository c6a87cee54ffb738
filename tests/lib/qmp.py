#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A QMP client for the tests, written against the protocol only.

    qmp.py SOCKET COMMAND...   negotiate, send each COMMAND (JSON text), print its reply, one line each;
                               with --events also what comes before the replies
As a module: Client, and serve_forever-free helpers for tests that do unkind things.
"""
import json
import socket
import sys

TIMEOUT = 60


class Client:
    def __init__(self, path, negotiate=True, enable=None):
        if path.startswith("tcp:"):
            host, port = path[4:].rsplit(":", 1)
            self.sock = socket.create_connection((host, int(port)), TIMEOUT)
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(TIMEOUT)
            self.sock.connect(path)
        self.buf = b""
        self.events = []
        self.greeting = self.message()
        if negotiate:
            args = {"enable": enable} if enable else {}
            reply = self.execute("qmp_capabilities", **args)
            assert reply == {"return": {}}, reply

    def line(self):
        """One line, which must end as libvirt wants it; b"" at the end of the stream."""
        while b"\r\n" not in self.buf:
            more = self.sock.recv(65536)
            if not more:
                assert self.buf == b"", self.buf
                return b""
            self.buf += more
        line, self.buf = self.buf.split(b"\r\n", 1)
        assert b"\n" not in line and b"\r" not in line, line
        assert all(0x20 <= c < 0x80 for c in line), line
        return line

    def message(self):
        line = self.line()
        return json.loads(line) if line else None

    def reply(self):
        """The next message that is no event."""
        while True:
            m = self.message()
            if m is None or "event" not in m:
                return m
            self.events.append(m)

    def event(self, name):
        """The next event called name."""
        while True:
            for i, e in enumerate(self.events):
                if e["event"] == name:
                    return self.events.pop(i)
            m = self.message()
            assert m is not None and "event" in m, m
            self.events.append(m)

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def execute(self, command, **args):
        request = {"execute": command}
        if args:
            request["arguments"] = {k.replace("__", "."): v for k, v in args.items()}
        self.send(json.dumps(request) + "\r\n")
        return self.reply()

    def do(self, command, **args):
        """As execute, for what must succeed: the return value."""
        reply = self.execute(command, **{k.replace("_", "-"): v for k, v in args.items()})
        assert "return" in reply, (command, args, reply)
        return reply["return"]

    def fails(self, command, _desc=None, _class="GenericError", **args):
        reply = self.execute(command, **{k.replace("_", "-"): v for k, v in args.items()})
        assert "error" in reply, (command, args, reply)
        assert reply["error"]["class"] == _class, reply
        assert _desc is None or reply["error"]["desc"] == _desc, (reply["error"]["desc"], _desc)
        return reply["error"]["desc"]

    def close(self):
        self.sock.close()


def main():
    args = sys.argv[1:]
    events = args[0] == "--events"
    client = Client(args[events])
    for command in args[events + 1:]:
        client.send(command + "\r\n")
        reply = client.reply()
        if events:
            for e in client.events:
                print(json.dumps(e))
            client.events.clear()
        print(json.dumps(reply))


if __name__ == "__main__":
    main()
