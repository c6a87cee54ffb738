#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A small NBD server that misbehaves as told, for tests of NBD clients.

    fake_nbd.py [options] SOCKET

listens on a unix socket, with its device in memory. Options that take a list (comma-separated) give one
value per connection; the last one also serves all later connections.

  --size LIST         bytes of the export (default 1048576)
  --handshake LIST    ok      (default)
                      silent  never say a word
                      close   close at once
                      garbage send noise instead of the greeting
                      mute    greet, then never answer an option
                      refuse  no such export, for any name
                      cut     close in the middle of the answer to NBD_OPT_GO
  --flags LIST        transmission flags of a connection, joined by "+", or "all", which is the default:
                      ro flush fua trim zero df fast cache multi
  --blocks MIN:PREFERRED:MAX   advertise these block sizes (default: none)
  --simple            know no structured replies, and so no block status
  --on N:ACTION       what to do at the N-th request (counted from 1 over all connections, NBD_CMD_DISC
                      apart); N may be K+ for "K and all later". May be repeated.
                      silent    do not answer it, go on with the next
                      freeze    answer nothing any more on this connection, but take what is sent
                      deaf      the same, and take nothing
                      stop      stop the whole server (SIGSTOP)
                      die       close the connection
                      exit      end the whole server
                      mid       send the first half of the reply, then close
                      garbage   send noise instead of a reply
                      cookie    answer a request that nobody made
                      short     READ: leave the last byte out of a structured reply that claims to be all
                      long      READ: answer with one byte more than was asked
                      outside   READ: answer with data of the block behind
                      twice     answer twice
                      lie       say that it is done, and do nothing
                      error=N   answer with NBD error number N
                      extent=BYTES:FLAGS   BLOCK_STATUS: answer with this one extent
                      noextent  BLOCK_STATUS: end the reply without an extent
  --volatile          writes that were not flushed are lost when their connection ends
  --log FILE          append a line for every request: connection, command, offset, length, flags
"""
import argparse
import os
import signal
import socket
import struct
import sys
import threading

OPT_EXPORT_NAME, OPT_ABORT, OPT_INFO, OPT_GO, OPT_STRUCTURED, OPT_SET_META = 1, 2, 6, 7, 8, 10
REP_ACK, REP_INFO, REP_META = 1, 3, 4
REP_ERR_UNSUP, REP_ERR_UNKNOWN = (1 << 31) + 1, (1 << 31) + 6
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZERO, STATUS = range(8)
COMMANDS = "read write disc flush trim cache zero status".split()
FLAG_BITS = dict(ro=1, flush=2, fua=3, trim=5, zero=6, df=7, multi=8, cache=10, fast=11)
CMD_FLAGS = ["fua", "no-hole", "df", "req-one", "fast-zero"]
NOISE = bytes(range(1, 256)) * 4
MEMORY_MAX = 64 << 20  # a larger device reads as zeroes and forgets


class Gone(Exception):
    """The connection is over."""


class Device:
    def __init__(self, size):
        self.lock = threading.Lock()
        self.now = bytearray(min(size, MEMORY_MAX))
        self.durable = bytes(self.now)

    def read(self, offset, length):
        part = bytes(self.now[offset:offset + length])
        return part + bytes(length - len(part))

    def write(self, offset, data, fua):
        if offset + len(data) <= len(self.now):
            self.now[offset:offset + len(data)] = data
            if fua:
                durable = bytearray(self.durable)
                durable[offset:offset + len(data)] = data
                self.durable = bytes(durable)

    def flush(self):
        self.durable = bytes(self.now)

    def lose(self):
        self.now = bytearray(self.durable)


class Server:
    def __init__(self, args):
        self.args = args
        self.lock = threading.Lock()
        self.requests = 0
        self.connections = 0
        self.device = Device(int(args.size.split(",")[0]))
        self.actions = [tuple(text.split(":", 1)) for text in args.on]

    def pick(self, text, connection):
        values = text.split(",")
        return values[min(connection, len(values)) - 1]

    def action(self):
        with self.lock:
            self.requests += 1
            for when, action in self.actions:
                first = int(when.rstrip("+"))
                if self.requests == first or (when.endswith("+") and self.requests > first):
                    return action
        return ""

    def log(self, line):
        if self.args.log:
            with self.lock, open(self.args.log, "a") as out:
                out.write(line + "\n")


class Connection:
    def __init__(self, server, sock, number):
        self.server, self.sock, self.number = server, sock, number
        self.structured = self.meta = False
        self.size = int(server.pick(server.args.size, number))
        self.handshake = server.pick(server.args.handshake, number)
        names = server.pick(server.args.flags, number)
        names = FLAG_BITS if names == "all" else [n for n in names.split("+") if n]
        self.flags = 1
        for name in names:
            if not (names is FLAG_BITS and name == "ro") and not (name == "df" and server.args.simple):
                self.flags |= 1 << FLAG_BITS[name]

    def recv(self, length):
        data = bytearray()
        while len(data) < length:
            part = self.sock.recv(length - len(data))
            if not part:
                raise Gone
            data += part
        return bytes(data)

    def wait_for_end(self):
        while self.sock.recv(65536):
            pass
        raise Gone

    # ---- handshake ----

    def reply(self, option, kind, data=b""):
        self.sock.sendall(struct.pack(">QIII", 0x3e889045565a9, option, kind, len(data)) + data)

    def go(self, option):
        if self.handshake == "refuse":
            self.reply(option, REP_ERR_UNKNOWN, b"nothing here")
            return False
        info = struct.pack(">HQH", 0, self.size, self.flags)
        if self.handshake == "cut":
            self.sock.sendall(struct.pack(">QIII", 0x3e889045565a9, option, REP_INFO, len(info)) + info[:5])
            raise Gone
        self.reply(option, REP_INFO, info)
        if self.server.args.blocks:
            sizes = [int(s) for s in self.server.args.blocks.split(":")]
            self.reply(option, REP_INFO, struct.pack(">HIII", 3, *sizes))
        self.reply(option, REP_ACK)
        return option == OPT_GO

    def negotiate(self):
        if self.handshake == "silent":
            self.wait_for_end()
        if self.handshake == "close":
            raise Gone
        if self.handshake == "garbage":
            self.sock.sendall(NOISE)
            raise Gone
        self.sock.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        self.recv(4)
        while True:
            _, option, length = struct.unpack(">QII", self.recv(16))
            data = self.recv(length)
            if self.handshake == "mute":
                self.wait_for_end()
            if option == OPT_ABORT:
                self.reply(option, REP_ACK)
                raise Gone
            if option == OPT_STRUCTURED and not self.server.args.simple:
                self.structured = True
                self.reply(option, REP_ACK)
            elif option == OPT_SET_META and self.structured:
                self.meta = True
                self.reply(option, REP_META, struct.pack(">I", 1) + b"base:allocation")
                self.reply(option, REP_ACK)
            elif option in (OPT_GO, OPT_INFO):
                if self.go(option):
                    return
            else:
                self.reply(option, REP_ERR_UNSUP)

    # ---- transmission ----

    def chunk(self, cookie, kind, payload, done=True):
        return struct.pack(">IHHQI", 0x668e33ef, int(done), kind, cookie, len(payload)) + payload

    def answer(self, cookie, command, offset, length, action):
        """The bytes of the reply."""
        if action.startswith("error="):
            number = int(action[6:])
            if self.structured:
                return self.chunk(cookie, 0x8001, struct.pack(">IH", number, 0))
            return struct.pack(">IIQ", 0x67446698, number, cookie)
        if command == STATUS:
            size, flags = action[7:].split(":") if action.startswith("extent=") else (length, 0)
            if action == "noextent":
                return self.chunk(cookie, 0, b"")
            return self.chunk(cookie, 5, struct.pack(">III", 1, int(size), int(flags)))
        if command != READ:
            return struct.pack(">IIQ", 0x67446698, 0, cookie)
        data = self.server.device.read(offset, length)
        if action == "short":
            data = data[:-1]
        if action == "long":
            data += b"!"
        if action == "outside":
            offset += length
        if self.structured:
            return self.chunk(cookie, 1, struct.pack(">Q", offset) + data)
        return struct.pack(">IIQ", 0x67446698, 0, cookie) + data

    def perform(self, command, offset, length, flags, data):
        device = self.server.device
        with device.lock:
            if command == WRITE:
                device.write(offset, data, flags & 1)
            elif command in (ZERO, TRIM):
                device.write(offset, bytes(length) if length <= MEMORY_MAX else b"", flags & 1)
            elif command == FLUSH:
                device.flush()

    def serve(self):
        while True:
            magic, flags, command, cookie, offset, length = struct.unpack(">IHHQQI", self.recv(28))
            if magic != 0x25609513:
                raise Gone
            data = self.recv(length) if command == WRITE else b""
            names = "+".join(n for i, n in enumerate(CMD_FLAGS) if flags >> i & 1)
            self.server.log(f"{self.number} {COMMANDS[command]} {offset} {length} {names}".rstrip())
            if command == DISC:
                raise Gone
            action = self.server.action()
            if action == "freeze":
                self.wait_for_end()
            if action == "deaf":
                threading.Event().wait()
            if action == "stop":
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread before its next step
            if action == "die":
                raise Gone
            if action == "exit":
                os._exit(0)
            if action == "silent":
                continue
            if action == "garbage":
                self.sock.sendall(NOISE)
                continue
            if action != "lie" and not action.startswith("error="):
                self.perform(command, offset, length, flags, data)
            reply = self.answer(cookie + 1000 if action == "cookie" else cookie, command, offset, length, action)
            if action == "mid":
                self.sock.sendall(reply[:len(reply) // 2])
                raise Gone
            self.sock.sendall(reply * (2 if action == "twice" else 1))

    def run(self):
        try:
            self.negotiate()
            self.serve()
        except (Gone, OSError):
            pass
        if self.server.args.volatile:
            self.server.device.lose()
        self.sock.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("socket")
    parser.add_argument("--size", default="1048576")
    parser.add_argument("--handshake", default="ok")
    parser.add_argument("--flags", default="all")
    parser.add_argument("--blocks")
    parser.add_argument("--simple", action="store_true")
    parser.add_argument("--on", action="append", default=[])
    parser.add_argument("--volatile", action="store_true")
    parser.add_argument("--log")
    args = parser.parse_args()

    listener = socket.socket(socket.AF_UNIX)
    if os.path.exists(args.socket):
        os.unlink(args.socket)
    listener.bind(args.socket)
    listener.listen(16)
    server = Server(args)
    while True:
        sock, _ = listener.accept()
        server.connections += 1
        threading.Thread(target=Connection(server, sock, server.connections).run, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
