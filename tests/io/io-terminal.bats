#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# blkproof io on a terminal (a pseudo-terminal of Python): prompt, editing, history, completion, and
# commands in the background while a line is typed.

load ../lib/common

setup() {
    need python3
    cd "$BATS_TEST_TMPDIR"
    truncate -s 64k a.raw
}

# talk STEP...: type each step's text when the text before its "|" has been shown; print everything.
talk() {
    python3 - "$@" <<'END'
import os, pty, select, sys, time
def die(why): # not 1: that is a result of the program's
    print(why, file=sys.stderr)
    sys.exit(9)
steps = [s.split("|", 1) for s in sys.argv[1:]]
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "vt100"
    os.execvp("blkproof", ["blkproof", "io", "-f", "raw", "a.raw"])
shown, mark, deadline = "", 0, time.monotonic() + 60
def read_more():
    global shown
    ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
    if not ready:
        die("never shown: " + repr(shown[mark:]))
    try:
        data = os.read(fd, 4096)
    except OSError:
        return False
    shown += data.decode(errors="replace")
    return bool(data)
for wanted, text in steps:
    while wanted not in shown[mark:]:
        if not read_more():
            die("ended before %r was shown: %r" % (wanted, shown))
    mark = shown.index(wanted, mark) + len(wanted)
    os.write(fd, text.encode().decode("unicode_escape").encode())
while read_more():
    pass
print(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
END
}

@test "a prompt, a command, its result, quit" {
    expect 0 talk 'blkproof> |length\n' $'64 KiB|' 'blkproof> |quit\n'
    contains "$out" "64 KiB"
}

@test "^D ends it as well" {
    # Before the line editor has the terminal, the kernel would take it: the completed word says that it has.
    expect 0 talk 'blkproof> |leng\t' 'th |\x15\x04'
}

@test "a failed command makes the status 1" {
    expect 1 talk 'blkproof> |foo\n' 'not found|' 'blkproof> |quit\n'
}

@test "the tab key completes a command" {
    expect 0 talk 'blkproof> |leng\t\n' '64 KiB|' 'blkproof> |quit\n'
}

@test "where several fit, it shows them" {
    expect 1 talk 'blkproof> |re\t' 'remove_break|' 'reopen|\n' 'not found|' 'blkproof> |quit\n'
    contains "$out" "readv"
}

@test "it completes options: those of the command" {
    # The only option of truncate, and then a mode that is none.
    expect 1 talk 'blkproof> |truncate -\tbad 64k\n' "Invalid preallocation mode 'bad'|" 'blkproof> |quit\n'
}

@test "the arrow up brings the last line back" {
    expect 0 talk 'blkproof> |length\n' '64 KiB|' 'blkproof> |\x1b[A\n' '64 KiB|' 'blkproof> |quit\n'
}

@test "what is in the background ends while the prompt waits" {
    expect 0 talk 'blkproof> |aio_write 0 512\n' 'wrote 512/512 bytes at offset 0|quit\n'
}
