"""A file on the router's machine: the same for everybody, or one for each account."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Literal

from pydantic import Field

from router.context.provider import Occasion, ProviderSettings, cut, unavailable


class FileSettings(ProviderSettings):
    """A provider of kind `file`."""

    kind: Literal["file"]
    path: str = Field(min_length=1)
    """Its path; `{tenant}` and `{account}` in it are the call's. A file that is not there adds nothing."""


class FileProvider:
    """Reads the file."""

    def __init__(self, settings: FileSettings) -> None:
        self.settings = settings

    async def gather(self, occasion: Occasion) -> str:
        """Return the text; empty when there is no such file."""
        # Both are names without separators, so the path stays where the operator put it.
        path = self.settings.path.replace("{tenant}", occasion.tenant).replace("{account}", occasion.account)
        try:
            return await asyncio.to_thread(self._read, Path(path))
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise unavailable(self.settings.name, "the file cannot be read") from error

    def _read(self, path: Path) -> str:
        # Not blocked for ever by a pipe in the file's place.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError("not a plain file")
            raw = file.read(self.settings.max_bytes + 1)
        return cut(raw.decode(errors="replace"), self.settings.max_bytes)

    async def close(self) -> None:
        """Nothing is held."""
