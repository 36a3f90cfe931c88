"""Diffs that reproduce a file: `git apply` and `patch --binary` turn the old bytes into the new ones.

Text that is UTF-8 gets a unified diff, compared byte by byte and split at `\\n` only. Anything else gets
git's binary patch. What would be too long for an event, or takes too long to compare, gets no diff at all.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import tempfile
import zlib
from pathlib import Path
from typing import Final

DIFF_BYTES: Final = 64 * 1024
"""Longer text is cut, and the change says so."""
# A binary patch is of no use when it is cut, and nobody reads it.
_BINARY_BYTES: Final = 16 * 1024
_DIFF_SECONDS: Final = 5.0
_BINARY_LINE: Final = 52
_NO_NEWLINE: Final = b"\n\\ No newline at end of file\n"
_ESCAPES: Final = {
    7: b"\\a",
    8: b"\\b",
    9: b"\\t",
    10: b"\\n",
    11: b"\\v",
    12: b"\\f",
    13: b"\\r",
    34: b'\\"',
    92: b"\\\\",
}


def file_diff(path: str, old: bytes | None, new: bytes | None, seconds: float = _DIFF_SECONDS) -> str | None:
    """Return the diff from `old` to `new`; None for either says that there is no such file.

    `path` is relative to the workspace, as `os.fsdecode` gives it. '' when nothing changed, None when the
    files are not to be compared: too long for binary ones, not done after `seconds`, no `diff` program.
    May be longer than DIFF_BYTES. Blocks.
    """
    if old == new:
        return ""
    raw = os.fsencode(path)
    if not (_is_text(old) and _is_text(new)):
        return _binary(raw, old, new)
    if not old and not new:
        # No line differs, so the header alone says that an empty file appears or goes.
        return (_header(raw, old, new) + _index(old, new)).decode()
    hunks = _whole(b"+", new) if not old else _whole(b"-", old) if not new else _compared(old, new, seconds)
    if hunks is None:
        return None
    names = b"--- %s\n+++ %s\n" % (_label(b"a/", raw, old), _label(b"b/", raw, new))
    header = _header(raw, old, new) if _needs_header(raw) else b""
    # What is cut, and so may end within a character, is cut again by whoever sends it.
    return (header + names + hunks).decode(errors="ignore")


def _is_text(content: bytes | None) -> bool:
    if content is None:
        return True
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def _whole(sign: bytes, content: bytes | None) -> bytes:
    """Return the one hunk that adds or removes all of a file."""
    content = content or b""
    # Cut before it is taken apart: what is over the limit is not shown anyway.
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    shown = content[: 2 * DIFF_BYTES]
    body = sign + shown.removesuffix(b"\n").replace(b"\n", b"\n" + sign)
    end = b"\n" if shown.endswith(b"\n") or len(shown) < len(content) else _NO_NEWLINE
    sizes = (b"0,0", b"1,%d" % lines) if sign == b"+" else (b"1,%d" % lines, b"0,0")
    return b"@@ -%s +%s @@\n" % sizes + body + end


def _compared(old: bytes, new: bytes, seconds: float) -> bytes | None:
    """Compare with the system's diff: Python's own takes minutes for files made to be hard to compare."""
    with tempfile.TemporaryDirectory(prefix="pointsman-diff-") as folder:
        before, after = Path(folder) / "old", Path(folder) / "new"
        before.write_bytes(old)
        after.write_bytes(new)
        try:
            run = subprocess.run(
                ["diff", "--text", "-u", "--", str(before), str(after)],
                capture_output=True,
                timeout=seconds,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
    # After the two lines with the names. Exit code 2 is trouble, with nothing on stdout.
    return run.stdout.split(b"\n", 2)[2] if run.stdout.startswith(b"---") else None


def _binary(path: bytes, old: bytes | None, new: bytes | None) -> str | None:
    """Return git's binary patch: the whole new file, and the whole old one to go back to."""
    if len(old or b"") + len(new or b"") > _BINARY_BYTES:
        return None
    text = _header(path, old, new) + _index(old, new) + b"GIT binary patch\n" + _literal(new) + _literal(old)
    return text.decode()


def _index(old: bytes | None, new: bytes | None) -> bytes:
    """Return the line with the hashes: a binary patch is refused without it."""
    return b"index %s..%s%s\n" % (_blob(old), _blob(new), b"" if None in (old, new) else b" 100644")


def _blob(content: bytes | None) -> bytes:
    if content is None:
        return b"0" * 40
    head = b"blob %d\0" % len(content)
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest().encode()


def _literal(content: bytes | None) -> bytes:
    content = content or b""
    packed = zlib.compress(content)
    lines = [b"literal %d\n" % len(content)]
    for start in range(0, len(packed), _BINARY_LINE):
        piece = packed[start : start + _BINARY_LINE]
        # A letter says how many bytes the line holds.
        size = len(piece) + (64 if len(piece) <= 26 else 70)
        lines.append(bytes([size]) + base64.b85encode(piece, pad=True) + b"\n")
    return b"".join([*lines, b"\n"])


def _header(path: bytes, old: bytes | None, new: bytes | None) -> bytes:
    """Return git's own header, for what the two lines with names cannot say."""
    # With a space in the name, only quotes say where the first one ends.
    quotes = b" " in path
    lines = b"diff --git %s %s\n" % (
        _quoted(b"a/" + path, always=quotes),
        _quoted(b"b/" + path, always=quotes),
    )
    if old is None:
        lines += b"new file mode 100644\n"
    if new is None:
        lines += b"deleted file mode 100644\n"
    return lines


def _needs_header(path: bytes) -> bool:
    """Return whether a name without git's header may be read as one with a date behind it."""
    return any(byte in path for byte in b" \t\r\n\v\f")


def _label(side: bytes, path: bytes, content: bytes | None) -> bytes:
    if content is None:
        return os.devnull.encode()
    label = _quoted(side + path)
    # As git does: a tab says that a name with spaces is over.
    return label + b"\t" if b" " in path and not label.startswith(b'"') else label


def _quoted(name: bytes, *, always: bool = False) -> bytes:
    """Return a name as git writes it: quoted when it holds what would end or break the line, or `always`."""
    try:
        name.decode()
        loose = 256
    except UnicodeDecodeError:
        # A diff is text, so bytes that are none are written as numbers.
        loose = 128
    parts = [
        _ESCAPES.get(byte)
        or (b"\\%03o" % byte if byte < 32 or byte == 127 or byte >= loose else bytes([byte]))
        for byte in name
    ]
    quoted = b"".join(parts)
    return name if quoted == name and not always else b'"' + quoted + b'"'
