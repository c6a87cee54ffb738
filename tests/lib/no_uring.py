# SPDX-License-Identifier: BSD-2-Clause
"""no_uring.py CMD ARG...: run CMD where io_uring is forbidden, as container runtimes do it: a seccomp
filter answers io_uring_setup with EPERM. Needs no privilege."""
import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SYS_IO_URING_SETUP = 425  # the same on every architecture but alpha
LOAD_NR, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL_EPERM = 0x7FFF0000, 0x00050000 | 1


def instruction(code, if_true, if_false, k):
    return struct.pack("HBBI", code, if_true, if_false, k)


program = ctypes.create_string_buffer(
    instruction(LOAD_NR, 0, 0, 0)
    + instruction(JUMP_EQUAL, 0, 1, SYS_IO_URING_SETUP)
    + instruction(RETURN, 0, 0, FAIL_EPERM)
    + instruction(RETURN, 0, 0, ALLOW)
)
fprog = ctypes.create_string_buffer(struct.pack("@HP", 4, ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, fprog, 0, 0):
    sys.exit("seccomp: " + os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[1], sys.argv[1:])
