"""Unix sockets in a sandbox's own folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def bound_socket(folder: Path, name: str, owner: int) -> socket.socket:
    """Bind a socket that only `owner` may connect to.

    A path of any length is fine: a socket's address may have 108 bytes, so it is bound by a short way.
    """
    descriptor = os.open(folder, os.O_DIRECTORY | os.O_PATH)
    listener = socket.socket(socket.AF_UNIX)
    try:
        path = Path(f"/proc/self/fd/{descriptor}/{name}")
        listener.bind(str(path))
        path.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(path, owner, owner)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(descriptor)
    listener.setblocking(False)
    return listener
