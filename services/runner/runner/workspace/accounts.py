"""Which account a session is of, as callers have said when they ran turns in it."""

from __future__ import annotations

import contextlib
import secrets
from collections import OrderedDict
from pathlib import Path
from typing import Final

from runner.names import SessionRef
from runner.threads import to_the_end

# Of sessions whose turns need not look at the disk; each is some 200 bytes.
_REMEMBERED: Final = 10_000


class Accounts:
    """One small file per session below `root`, so that it is known after a restart."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: OrderedDict[SessionRef, str] = OrderedDict()

    async def note(self, session: SessionRef, account: str) -> str:
        """Remember a session's account, and return it: the first that was said counts.

        Takes no time when it is known.
        """
        if session not in self._known:
            self._remember(session, await to_the_end(self._kept, session, account))
        return self._known[session]

    def of(self, session: SessionRef) -> str | None:
        """Return a session's account, None when nobody has said it. Reads a file."""
        with contextlib.suppress(FileNotFoundError):
            # A power cut may have left a file without contents: nobody has said it then.
            return self._path(session).read_text() or None
        return None

    def forget(self, session: SessionRef) -> None:
        """Forget a session that is deleted."""
        self._known.pop(session, None)
        self._path(session).unlink(missing_ok=True)

    def _kept(self, session: SessionRef, account: str) -> str:
        path = self._path(session)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(f".{secrets.token_hex(8)}")
        new.write_text(account)
        try:
            # Whole or not at all, and never over another.
            path.hardlink_to(new)
        except FileExistsError:
            if known := path.read_text():
                return known
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
        return account

    def _remember(self, session: SessionRef, account: str) -> None:
        while len(self._known) >= _REMEMBERED:
            self._known.popitem(last=False)
        self._known[session] = account

    def _path(self, session: SessionRef) -> Path:
        return self._root / session.folder
