"""Takes the setuid and setgid bits off a workspace.

No sandbox can set them (see `sandboxes/seccomp.py`). This is for workspaces of before that, and for engines
whose seccomp library does not know the newest system calls.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import structlog

SET_ID: Final = 0o6000
_SECONDS: Final = 60.0

_log = structlog.get_logger("runner.workspace")


async def strip_set_id(workspace: Path) -> None:
    """Take the bits off all files and folders. No sandbox may run on the workspace: paths are looked up."""
    process = await asyncio.create_subprocess_exec(
        *("find", str(workspace), "-xdev", "-perm", "/6000", "-not", "-type", "l"),
        *("-exec", "chmod", "ug-s", "--", "{}", "+", "-print"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.defpath, "LC_ALL": "C"},
    )
    try:
        async with asyncio.timeout(_SECONDS):
            found, _ = await process.communicate()
    except TimeoutError:
        _log.warning("set_id_bits_not_searched", workspace=str(workspace))
        return
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if found:
        _log.warning("set_id_bits_removed", workspace=str(workspace), files=found.count(b"\n"))
