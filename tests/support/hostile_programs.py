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
