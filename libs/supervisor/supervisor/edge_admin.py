"""Envoy's administration, on a Unix socket in the folder that Envoy was started in.

Only the standard library: the edge's container image has this module without its neighbours' dependencies.
There `python -m supervisor.edge_admin FOLDER` tells by its exit code whether Envoy is ready.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys
from pathlib import Path
from typing import Final

from supervisor.edge import ADMIN_SOCKET

_ANSWER_SECONDS: Final = 2.0


def ask_envoy(folder: Path, what: str, method: str = "GET") -> bytes:
    """Ask, and return the answer's body. Blocks. Raises OSError, also for an answer that is no success."""
    connection = http.client.HTTPConnection("localhost")
    # By descriptor, because a socket's path may have 107 bytes, and a data directory's more.
    descriptor = os.open(folder, os.O_DIRECTORY | os.O_PATH | os.O_CLOEXEC)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_ANSWER_SECONDS)
        connection.sock.connect(f"/proc/self/fd/{descriptor}/{ADMIN_SOCKET}")
        connection.request(method, f"/{what}")
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"Envoy's answer cannot be read: {error!r}") from error
    finally:
        connection.close()
        os.close(descriptor)
    if answer.status != http.client.OK:
        raise OSError(f"Envoy answered {answer.status}")
    return body


if __name__ == "__main__":
    try:
        ask_envoy(Path(sys.argv[1]), "ready")
    except OSError as error:
        sys.exit(f"edge: {error}")
