"""A diff that is told makes the new file out of the old one, byte for byte: the real git applies it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runner.diffs import DIFF_BYTES, file_diff

_LINES = st.lists(
    st.sampled_from(
        [
            b"",
            b"one",
            b"two\r",
            b"\r",
            b"a\xe2\x80\xa8b",
            b"\xc2\x85",
            b"\x0b\x0c",
            b"-- x",
            b"@@ -1 +1 @@",
            b"\\ No",
        ]
    ),
    max_size=12,
)
_TEXT = st.builds(lambda lines, end: b"\n".join(lines) + end, _LINES, st.sampled_from([b"", b"\n"]))
_BYTES = st.binary(max_size=300)
_CONTENT = st.one_of(st.none(), _TEXT, st.text(max_size=80).map(str.encode), _BYTES)
_PART = st.one_of(
    st.sampled_from(
        [b"plain.txt", b"two words", b'quo"te', b"back\\slash", b"tab\tname", b"new\nline", b" lead"]
    ),
    st.sampled_from([b"2020-01-01 00:00:00 +0000", "füñ".encode(), b"\xff\xfe", b"trail ", b"\x01", b"cr\r"]),
)


def _applied(folder: Path, path: str, old: bytes | None, diff: str, command: list[str]) -> bytes | None:
    target = folder / os.fsdecode(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if old is not None:
        target.write_bytes(old)
    run = subprocess.run(
        command, input=diff.encode(), cwd=folder, capture_output=True, timeout=60, check=False
    )
    assert run.returncode == 0, (run.stderr, diff)
    return target.read_bytes() if target.exists() else None


@given(old=_CONTENT, new=_CONTENT, parts=st.lists(_PART, min_size=1, max_size=2))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_git_apply_makes_the_new_file(
    tmp_path: Path, old: bytes | None, new: bytes | None, parts: list[bytes]
) -> None:
    folder = tmp_path / "w"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = os.fsdecode(b"/".join(parts))
    diff = file_diff(path, old, new)
    assert diff is not None
    if old == new:
        assert diff == ""
        return
    made = _applied(folder, path, old, diff, ["git", "apply", "--whitespace=nowarn", "-"])
    assert made == new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (None, b"one\ntwo\n"),
        (None, b"one\r\ntwo\r\n"),
        (None, b"one"),
        (None, b""),
        (None, "s = 'a\u2028b'\n".encode()),
        (None, b"a\x85b\n".decode("latin-1").encode()),
        (b"one\r\ntwo\r\n", b"one\r\nTWO\r\n"),
        (b"one", b"one\n"),
        (b"", b"one"),
        (b"one", b""),
        (b"", None),
        (b"one\r", None),
    ],
)
def test_patch_makes_the_new_file(tmp_path: Path, old: bytes | None, new: bytes | None) -> None:
    diff = file_diff("a/file.txt", old, new)
    assert diff is not None
    made = _applied(tmp_path, "a/file.txt", old, diff, ["patch", "-p1", "--binary", "-s"])
    # patch cannot know whether an empty file stays.
    assert made == new or (new == b"" and old and made is None)


def test_what_cannot_be_shown_has_no_diff() -> None:
    assert file_diff("big.bin", None, os.urandom(1 << 20)) is None


def test_a_diff_that_is_too_long_says_so_in_its_header() -> None:
    diff = file_diff("long.txt", None, "ä\n".encode() * DIFF_BYTES)
    assert diff is not None
    assert diff.startswith(f"--- /dev/null\n+++ b/long.txt\n@@ -0,0 +1,{DIFF_BYTES} @@\n+ä\n")
    assert len(diff.encode()) > DIFF_BYTES
