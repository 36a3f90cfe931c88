# A plain script with short words, for any Python.
# ruff: noqa: PTH101, PTH102, PTH123, PTH208, SIM105
"""Runs inside a sandbox: tries all ways to a setuid or setgid bit, and writes down those that worked."""

import ctypes
import io
import json
import os
import platform
import stat
import subprocess
import tarfile

X86 = platform.machine() == "x86_64"
CREATE, AT = os.O_CREAT | os.O_WRONLY, -100
libc = ctypes.CDLL(None, use_errno=True)
done: dict = {}  # type: ignore[type-arg]


def number(x86: int, arm: int) -> int:
    return x86 if X86 else arm


def new(name: str) -> str:
    with open(name, "w") as file:
        file.write("#!/bin/sh\n")
    return name


def tmpfile(mode: int) -> None:
    fd = os.open(".", os.O_TMPFILE | os.O_WRONLY, mode)
    os.link(f"/proc/self/fd/{fd}", f"t{mode:o}", follow_symlinks=True)


def how(mode: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in (CREATE, mode, 0))


def archive(mode: int) -> str:
    with tarfile.open("x.tar", "w") as tar:
        info = tarfile.TarInfo(f"tar{mode:o}")
        info.mode = mode
        tar.addfile(info, io.BytesIO())
    return "tar xpf x.tar"


def ways(mode):
    m = f"{mode:o}"
    shell = {
        "chmod": f"touch c{m}; chmod {m} c{m}",
        "symbolic": f"touch s{m}; chmod ug+s s{m}",
        "install": f"install -m {m} /bin/true i{m}",
        "copy": f"cp -a /usr/bin/passwd p{m}; cp -a /usr/bin/chage q{m}",
        "folder": f"mkdir -m {m} d{m}",
        "link": f"ln /usr/bin/passwd l{m}",
        "rename": f"touch /tmp/r{m}; chmod {m} /tmp/r{m}; mv /tmp/r{m} r{m}",
        "tar": archive(mode),
    }
    calls = {
        "os.chmod": lambda: os.chmod(new("oc" + m), mode),
        "fchmod": lambda: os.fchmod(os.open(new("of" + m), os.O_RDWR), mode),
        "fchmodat2": lambda: libc.syscall(452, AT, new("f2" + m).encode(), mode, 0),
        "fchmodat": lambda: libc.syscall(number(268, 53), AT, new("fa" + m).encode(), mode),
        "open": lambda: os.open("op" + m, CREATE, mode),
        "creat": lambda: libc.syscall(85, ("cr" + m).encode(), mode) if X86 else None,
        "old open": lambda: libc.syscall(2, ("oo" + m).encode(), CREATE, mode) if X86 else None,
        "openat2": lambda: libc.syscall(437, AT, ("o2" + m).encode(), how(mode), 24),
        "tmpfile": lambda: tmpfile(mode),
        "mknod": lambda: os.mknod("mn" + m, stat.S_IFREG | mode),
        "mkdir": lambda: os.mkdir("md" + m, mode),
        "capability": lambda: os.setxattr(
            new("xa" + m), "security.capability", bytes.fromhex("0100000200200000000000000000000000000000")
        ),
        "io_uring": lambda: libc.syscall(425, 8, bytes(120)),
    }
    return {
        **{name: lambda line=line: subprocess.call(line, shell=True) for name, line in shell.items()},
        **calls,
    }


os.umask(0)
for mode in (0o4755, 0o2755, 0o6711):
    for name, way in ways(mode).items():
        try:
            way()
        except OSError:
            pass
        for found in os.listdir("."):
            if os.lstat(found).st_mode & 0o6000 or "security.capability" in os.listxattr(
                found, follow_symlinks=False
            ):
                done.setdefault(f"{name} {mode:o}", found)
                os.chmod(found, 0o755)
os.umask(0o022)
new("plain")
os.chmod("plain", 0o751)
fd = os.open("sticky", CREATE, 0o1644)
with open("set_id.json", "w") as file:
    json.dump(done, file)
