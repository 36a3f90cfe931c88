"""The files of a sandbox that are made for it. They are its user's, and closed to all others.

Its /etc is one of ours, so that none of the host's own has to be shown.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from runner.sandboxes.protocol import HOME


def passwd_of(uid: int) -> str:
    """Return the /etc/passwd of a sandbox whose agent has this uid."""
    return f"agent:x:{uid}:{uid}:agent:{HOME}:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"


HOSTS: Final = "127.0.0.1 localhost\n::1 localhost\n"
"""The /etc/hosts of every sandbox."""
_FILES: Final = {
    "passwd": passwd_of(1000),
    "group": "agent:x:1000:\nnogroup:x:65534:\n",
    "hosts": HOSTS,
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
# Needed to run programs at all, and the same on every machine of a distribution.
_COPIED: Final = ("ld.so.cache", "ld.so.conf", "mime.types", "os-release", "debian_version")
BOUND: Final = ("alternatives", "ssl/certs")
"""Folders of the host's /etc that programs in /usr point into, shown read-only."""


def own(path: Path, owner: int) -> None:
    """Give a file or folder to a sandbox's user; a runner that is not root has no other user than its own."""
    if os.geteuid() == 0:
        os.chown(path, owner, owner, follow_symlinks=False)


def own_all(folder: Path, owner: int) -> None:
    """Give a folder with all in it to a sandbox's user. No sandbox may be able to write to it."""
    for path in (folder, *folder.rglob("*")):
        own(path, owner)


def write_etc(folder: Path) -> None:
    """Fill `folder` with what will be /etc. Existing files are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _FILES.items():
        (folder / name).write_text(text)
    for name in _COPIED:
        source = Path("/etc") / name
        if source.is_file():
            shutil.copyfile(source, folder / name)
    for name in BOUND:
        (folder / name).mkdir(parents=True, exist_ok=True)
