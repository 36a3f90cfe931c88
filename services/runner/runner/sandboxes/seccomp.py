"""System calls that no sandbox has: one table, as a BPF program for bubblewrap and as JSON for Docker.

What is refused is what an agent's tools never need and what attacks on kernels are made of: new namespaces
and mounts, io_uring, tracing, kernel keys, BPF, modules, and sockets of families that are not the sandbox's
own (vsock, for one, reaches the hypervisor from any network namespace).

No file can get the setuid or setgid bit either: on the host a workspace's files belong to a user that may be
the installation's own, and whoever starts such a program there is that user.
"""

from __future__ import annotations

import errno
import platform
import struct
from typing import Any, Final

# Name, number on x86-64, number on arm64 (None: it does not exist there).
_REFUSED: Final[tuple[tuple[str, int, int | None], ...]] = (
    ("ptrace", 101, 117), ("process_vm_readv", 310, 270), ("process_vm_writev", 311, 271),
    ("kcmp", 312, 272), ("pidfd_getfd", 438, 438), ("perf_event_open", 298, 241),
    ("bpf", 321, 280), ("userfaultfd", 323, 282), ("memfd_secret", 447, 447),
    ("io_uring_setup", 425, 425), ("io_uring_enter", 426, 426), ("io_uring_register", 427, 427),
    ("unshare", 272, 97), ("setns", 308, 268), ("chroot", 161, 51), ("pivot_root", 155, 41),
    ("mount", 165, 40), ("umount2", 166, 39), ("mount_setattr", 442, 442), ("open_tree", 428, 428),
    ("move_mount", 429, 429), ("fsopen", 430, 430), ("fsconfig", 431, 431), ("fsmount", 432, 432),
    ("fspick", 433, 433), ("name_to_handle_at", 303, 264), ("open_by_handle_at", 304, 265),
    ("fanotify_init", 300, 262), ("quotactl", 179, 60), ("quotactl_fd", 443, 443), ("acct", 163, 89),
    ("add_key", 248, 217), ("request_key", 249, 218), ("keyctl", 250, 219),
    ("init_module", 175, 105), ("finit_module", 313, 273), ("delete_module", 176, 106),
    ("kexec_load", 246, 104), ("kexec_file_load", 320, 294), ("reboot", 169, 142),
    ("swapon", 167, 224), ("swapoff", 168, 225), ("syslog", 103, 116), ("vhangup", 153, 58),
    ("settimeofday", 164, 170), ("clock_settime", 227, 112), ("clock_adjtime", 305, 266),
    ("adjtimex", 159, 171), ("sethostname", 170, 161), ("setdomainname", 171, 162),
    ("lookup_dcookie", 212, 18), ("iopl", 172, None), ("ioperm", 173, None), ("modify_ldt", 154, None),
    ("uselib", 134, None), ("_sysctl", 156, None),
)  # fmt: skip
# Takes any amount of disk in no time at all, which no watch is fast enough for. What asks for it goes on
# without, as on file systems that have no such thing.
_FALLOCATE: Final = ("fallocate", 285, 47)
# Flags and mode are behind a pointer, where no filter can look. Programs go on with openat.
_OPENAT2: Final = ("openat2", 437, 437)
_CLONE: Final = ("clone", 56, 220)
_CLONE3: Final = ("clone3", 435, 435)
_SOCKET: Final = ("socket", 41, 198)
_IOCTL: Final = ("ioctl", 16, 29)

# Name, number on x86-64, number on arm64, which argument is the mode.
_MODES: Final[tuple[tuple[str, int, int | None, int], ...]] = (
    ("chmod", 90, None, 1), ("fchmod", 91, 52, 1), ("fchmodat", 268, 53, 2), ("fchmodat2", 452, 452, 2),
    ("creat", 85, None, 1), ("mkdir", 83, None, 1), ("mkdirat", 258, 34, 2),
    ("mknod", 133, None, 1), ("mknodat", 259, 33, 2),
)  # fmt: skip
# Here the argument before it has the flags: without one of `_CREATES` the mode is whatever was left there.
_OPENS: Final[tuple[tuple[str, int, int | None, int], ...]] = (("open", 2, None, 2), ("openat", 257, 56, 3))
# S_ISUID and S_ISGID.
_SET_ID: Final = (0o4000, 0o2000)
# O_CREAT and O_TMPFILE, the same on both machines.
_CREATES: Final = (0o100, 0o20000000)

# CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET.
_NAMESPACES: Final = 0x7E020000
# AF_UNIX, AF_INET, AF_INET6, AF_NETLINK.
_FAMILIES: Final = (1, 2, 10, 16)
# TIOCSTI, TIOCLINUX: typing into a terminal on somebody's behalf.
_TERMINAL: Final = (0x5412, 0x541C)

_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 1), "aarch64": (0xC00000B7, 2)}
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32_BIT: Final = 0x40000000


def bpf_program(machine: str | None = None) -> bytes:
    """Return the filter for this machine, as bubblewrap's `--seccomp` takes it. KeyError: unknown machine."""
    architecture, column = _ARCHITECTURES[machine or platform.machine()]
    program = [_op(_LOAD, _ARCHITECTURE_AT), _op(_EQUAL, architecture, 1, 0), _op(_RETURN, _KILL)]
    program += [_op(_LOAD, _NUMBER_AT)]
    if column == 1:
        # The same calls under other numbers.
        program += [_op(_AT_LEAST, _X32_BIT, 0, 1), _refuse(errno.ENOSYS)]
    for row in _REFUSED:
        number = row[column]
        if isinstance(number, int):
            program += [_op(_EQUAL, number, 0, 1), _refuse(errno.EPERM)]
    # The C library goes back to clone, whose flags can be looked at.
    program += [_op(_EQUAL, int(_CLONE3[column]), 0, 1), _refuse(errno.ENOSYS)]
    program += [_op(_EQUAL, int(_FALLOCATE[column]), 0, 1), _refuse(errno.EOPNOTSUPP)]
    program += [_op(_EQUAL, int(_OPENAT2[column]), 0, 1), _refuse(errno.ENOSYS)]
    program += _without_set_id(column)
    flags = [_op(_ANY_BIT, _NAMESPACES, 0, 1), _refuse(errno.EPERM)]
    program += _with_argument(int(_CLONE[column]), 0, flags)
    allowed = [_op(_EQUAL, family, len(_FAMILIES) - place, 0) for place, family in enumerate(_FAMILIES)]
    program += _with_argument(int(_SOCKET[column]), 0, [*allowed, _refuse(errno.EAFNOSUPPORT)])
    terminal = [part for code in _TERMINAL for part in (_op(_EQUAL, code, 0, 1), _refuse(errno.EPERM))]
    program += _with_argument(int(_IOCTL[column]), 1, terminal)
    return b"".join([*program, _op(_RETURN, _ALLOW)])


def _without_set_id(column: int) -> list[bytes]:
    program: list[bytes] = []
    refuse = [_op(_ANY_BIT, sum(_SET_ID), 0, 1), _refuse(errno.EPERM)]
    for row in _MODES:
        number = row[column]
        if isinstance(number, int):
            program += _with_argument(number, row[3], refuse)
    for row in _OPENS:
        number = row[column]
        if isinstance(number, int):
            mode = [_op(_LOAD, _ARGUMENTS_AT + 8 * row[3]), *refuse]
            program += _with_argument(number, row[3] - 1, [_op(_ANY_BIT, sum(_CREATES), 0, len(mode)), *mode])
    return program


def _docker_set_id() -> list[dict[str, Any]]:
    """Return a rule for each call and bit: conditions of one rule on different arguments must all hold."""

    def bit(argument: int, value: int) -> dict[str, Any]:
        return {"index": argument, "value": value, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}

    conditions = [(row[0], [bit(row[3], wanted)]) for row in _MODES for wanted in _SET_ID]
    conditions += [
        (row[0], [bit(row[3] - 1, creates), bit(row[3], wanted)])
        for row in _OPENS
        for wanted in _SET_ID
        for creates in _CREATES
    ]
    return [
        {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM, "args": args}
        for name, args in conditions
    ]


def docker_profile() -> dict[str, Any]:
    """Return the same rules as Docker's `seccomp=` option takes them."""
    refuse = "SCMP_ACT_ERRNO"
    namespaces = [
        {"index": 0, "value": bit, "valueTwo": bit, "op": "SCMP_CMP_MASKED_EQ"}
        for bit in (1 << shift for shift in range(32))
        if bit & _NAMESPACES
    ]
    rules: list[dict[str, Any]] = [
        {"names": [row[0] for row in _REFUSED], "action": refuse, "errnoRet": errno.EPERM},
        {"names": ["clone3"], "action": refuse, "errnoRet": errno.ENOSYS},
        {"names": ["fallocate"], "action": refuse, "errnoRet": errno.EOPNOTSUPP},
        {"names": ["openat2"], "action": refuse, "errnoRet": errno.ENOSYS},
        *_docker_set_id(),
    ]
    rules += [
        {"names": ["clone"], "action": refuse, "errnoRet": errno.EPERM, "args": [rule]} for rule in namespaces
    ]
    # Conditions on one argument are alternatives to Docker: "none of these" is said as all that is refused.
    others = [{"index": 0, "value": max(_FAMILIES), "op": "SCMP_CMP_GT"}]
    others += [
        {"index": 0, "value": family, "op": "SCMP_CMP_EQ"}
        for family in range(max(_FAMILIES))
        if family not in _FAMILIES
    ]
    rules += [
        {"names": ["socket"], "action": refuse, "errnoRet": errno.EAFNOSUPPORT, "args": [rule]}
        for rule in others
    ]
    rules += [
        {
            "names": ["ioctl"],
            "action": refuse,
            "errnoRet": errno.EPERM,
            "args": [{"index": 1, "value": code, "op": "SCMP_CMP_EQ"}],
        }
        for code in _TERMINAL
    ]
    architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]
    return {"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": rules}


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _refuse(number: int) -> bytes:
    return _op(_RETURN, _ERRNO | number)


def _with_argument(number: int, argument: int, rules: list[bytes]) -> list[bytes]:
    """Apply rules to an argument's lower half of one call, then go on with the next call's rules.

    The program looks at the call's number in between, so it is loaded again.
    """
    body = [_op(_LOAD, _ARGUMENTS_AT + 8 * argument), *rules]
    return [_op(_EQUAL, number, 0, len(body)), *body, _op(_LOAD, _NUMBER_AT)]
