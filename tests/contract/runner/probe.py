# A plain script with short words, for any Python.
# ruff: noqa: PTH110, PTH113, PTH116, PTH118, PTH123, PTH202, PTH208
"""Runs inside a sandbox and writes down what it could do. Arguments: paths of the host that must not show."""

import ctypes
import errno
import http.client
import json
import os
import select
import socket
import sys
import time

MAY_BE_HELD = 64
libc = ctypes.CDLL(None, use_errno=True)


def status(name: str) -> str:
    with open("/proc/self/status") as file:
        return next(line.split(":")[1].strip() for line in file if line.startswith(name + ":"))


def reached() -> list[str]:
    hit = []
    places = [("169.254.169.254", 80), ("8.8.8.8", 53), ("10.0.0.1", 80), ("172.17.0.1", 22)]
    places += [("127.0.0.1", port) for port in (22, 80, 7101, 7102, 7103, 7104, 7105, 8080)]
    for host, port in places:
        try:
            socket.create_connection((host, port), timeout=1).close()
            hit.append(f"{host}:{port}")
        except OSError:
            continue
    try:
        socket.getaddrinfo("example.com", 80)
        hit.append("dns")
    except OSError:
        pass
    for family in ("AF_VSOCK", "AF_PACKET", "AF_ALG", "AF_BLUETOOTH"):
        try:
            socket.socket(getattr(socket, family), socket.SOCK_STREAM).close()
            hit.append(family)
        except OSError:
            continue
    try:
        raw = socket.socket(socket.AF_UNIX)
        raw.connect("\0abstract-test")
        hit.append("abstract")
    except OSError:
        pass
    return hit


def written() -> list[str]:
    done = []
    for path in ("/x", "/usr/x", "/etc/x", "/run/agent/x", "/opt/agent/x", "/proc/sys/kernel/core_pattern"):
        try:
            with open(path, "w"):
                done.append(path)
        except OSError:
            continue
    return done


def forbidden() -> list[str]:
    """System calls that must fail: new namespaces, mounts, io_uring, keys, bpf, tracing, modules…"""
    calls = {
        "unshare(CLONE_NEWUSER)": (272, 0x10000000),
        "unshare(CLONE_NEWNS)": (272, 0x00020000),
        "mount": (165, b"none", b"/tmp", b"tmpfs", 0, None),
        "ptrace(1)": (101, 16, 1, 0, 0),
        "setuid(0)": (105, 0),
        "chroot": (161, b"/tmp"),
        "init_module": (175, None, 0, b""),
        "bpf": (321, 0, None, 0),
        "perf_event_open": (298, None, 0, -1, -1, 0),
        "io_uring_setup": (425, 1, ctypes.create_string_buffer(120)),
        "keyctl": (250, 0, -3, 1),
        "userfaultfd": (323, 0),
        "reboot": (169, 0xFEE1DEAD, 672274793, 0, None),
        "mknod": (133, b"/tmp/dev", 0o60666, 0x0801),
        "pivot_root": (155, b"/tmp", b"/tmp"),
        "setns": (308, 0, 0),
    }
    worked = []
    for name, (number, *arguments) in calls.items():
        ctypes.set_errno(0)
        result = libc.syscall(number, *arguments)
        if result >= 0 or ctypes.get_errno() not in (
            errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOSPC, errno.EUSERS, errno.EINVAL, errno.EBADF,
        ):  # fmt: skip
            worked.append(f"{name}={result} errno={ctypes.get_errno()}")
    return worked


def canary_hits() -> list[str]:
    needle = b"sk-" + b"canary"
    hits = []
    for pid in [entry for entry in os.listdir("/proc") if entry.isdigit()]:
        for name in ("environ", "cmdline"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    if needle in file.read() and not (name == "cmdline" and pid == str(os.getpid())):
                        hits.append(f"/proc/{pid}/{name}")
            except OSError:
                continue
    for top in ("/home", "/tmp", "/run", "/etc", "/workspace", "/opt"):
        for folder, _, names in os.walk(top):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.getsize(path) < 1 << 20 and os.path.isfile(path) and name != "claude":
                    try:
                        with open(path, "rb") as file:
                            if needle in file.read():
                                hits.append(path)
                    except OSError:
                        continue
    return hits


class Unix(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/agent/llm.sock")


def relay() -> dict[str, int]:
    answers = {}
    for method, path in (
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("POST", "/v1/complete"),
        ("GET", "/v1/messages"),
        ("GET", "/v1/messages/../../etc/passwd"),
    ):
        connection = Unix("localhost")
        connection.request(method, path)
        answers[f"{method} {path}"] = connection.getresponse().status
        connection.close()
    return answers


def held() -> int:
    """Return how many of two hundred connections to the relay stay open: the others are closed by it."""
    connections = []
    for _ in range(200):
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(0.2)
        try:
            one.connect("/run/agent/llm.sock")
        except BlockingIOError:
            # More at once than the runner has looked at.
            time.sleep(0.05)
            continue
        connections.append(one)
    end = time.monotonic() + 30
    while len(connections) > MAY_BE_HELD and time.monotonic() < end:
        for one in select.select(connections, [], [], 1)[0]:
            if one.recv(1) == b"":
                connections.remove(one)
    return len(connections)


found = {
    "uid": os.getuid(),
    "capabilities": sum(int(status(name), 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")),
    "no_new_privileges": int(status("NoNewPrivs")),
    "seccomp": int(status("Seccomp")),
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "reached": reached(),
    "seen": [path for path in sys.argv[1:] if os.path.exists(path)],
    "written": written(),
    "processes_of_others": [
        pid
        for pid in os.listdir("/proc")
        if pid.isdigit() and os.stat(f"/proc/{pid}").st_uid not in (os.getuid(), 65534)
    ],
    "localhost": sorted({found[4][0] for found in socket.getaddrinfo("localhost", 80)}),
    "forbidden_that_worked": forbidden(),
    "canary_hits": canary_hits(),
    "relay": relay(),
    "held": held(),
}
with open("/workspace/probe.json", "w") as file:
    json.dump(found, file)
