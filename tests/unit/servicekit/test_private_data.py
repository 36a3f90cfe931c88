"""The data directory is closed to other users of the machine, however it was before."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from servicekit.private_data import NotPrivate, open_private


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def _file(path: Path, mode: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    path.chmod(mode)
    return path


@pytest.fixture
def umask_000() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_new_directory_is_closed_whatever_the_umask(tmp_path: Path, umask_000: object) -> None:
    assert _mode(open_private(tmp_path / "above" / "data")) == 0o700
    assert _mode(tmp_path / "above") == 0o700


def test_an_existing_directory_is_closed_with_all_in_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    secret = _file(data / "keys/router.pem", 0o644)
    deep = _file(data / "runner/history/tenant/session/newest.json", 0o664)
    note = _file(data / "runner/workspaces/accounts/tenant/session", 0o644)
    for folder in (data, *(path for path in data.rglob("*") if path.is_dir())):
        folder.chmod(0o2775)
    open_private(data)
    assert all(_mode(path) == 0o700 for path in (data, *data.rglob("*")) if path.is_dir())
    assert [_mode(path) for path in (secret, deep, note)] == [0o600] * 3


def test_a_group_s_file_in_a_closed_directory_is_closed(tmp_path: Path) -> None:
    data = open_private(tmp_path / "data")
    key = _file(data / "api-key", 0o640)
    log = _file(data / "logs/router.log", 0o604)
    open_private(data)
    assert (_mode(key), _mode(log)) == (0o600, 0o600)


def test_files_of_workspaces_keep_their_modes_below_closed_folders(tmp_path: Path) -> None:
    data = tmp_path / "data"
    script = _file(data / "runner/workspaces/tenant/session/run.sh", 0o755)
    data.chmod(0o755)
    open_private(data)
    assert _mode(script) == 0o755
    assert _mode(data / "runner/workspaces/tenant") == 0o700


def test_links_are_not_followed_out_of_the_directory(tmp_path: Path) -> None:
    outside = _file(tmp_path / "outside", 0o644)
    data = tmp_path / "data"
    _file(data / "file", 0o644)
    (data / "link").symlink_to(outside)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(data / "socket"))
        open_private(data)
    assert _mode(outside) == 0o644


def test_a_directory_that_is_a_link_is_closed_where_it_leads(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir(mode=0o755)
    (tmp_path / "data").symlink_to(real)
    assert open_private(tmp_path / "data") == real
    assert _mode(real) == 0o700


def test_what_belongs_to_another_user_is_refused_by_name(tmp_path: Path) -> None:
    data = open_private(tmp_path / "data")
    planted = _file(data / "api-key", 0o644)
    os.chown(planted, 65534, 65534)
    with pytest.raises(NotPrivate, match=r"api-key belongs to user 65534.*chown -R 0 "):
        open_private(data)
    planted.unlink()
    os.chown(data, 65534, 65534)
    with pytest.raises(NotPrivate, match=r"data belongs to user 65534"):
        open_private(data)
