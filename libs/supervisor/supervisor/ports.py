"""Ports for the services of one run."""

from __future__ import annotations

import errno
import random
import socket
from typing import Final

from supervisor.refusal import Refusal

# Below what Linux gives to outgoing connections (32768 on), so that nobody gets a service's port while it
# restarts; above what is commonly taken.
_FIRST: Final = 20_000
_LAST: Final = 32_000


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that are free now, in a row where that is possible."""
    ports: list[int] = []
    port = random.randrange(_FIRST, _LAST)  # noqa: S311 - spread, not secrecy
    for _ in range(_LAST - _FIRST):
        port = port + 1 if port < _LAST else _FIRST
        if _is_free("127.0.0.1", port):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise Refusal(f"no {count} free ports between {_FIRST} and {_LAST} on 127.0.0.1; stop what uses them")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def check_listen(host: str, port: int) -> None:
    """Raise Refusal when nobody can listen there, with what to do about it."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise Refusal(f"POINTSMAN_HOST: {host} is no address ({error.strerror})") from error
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            # Binding alone also works beside a listener that allows it.
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Refusal(
                    f"port {port} is in use by another program; stop that one, or choose another port: "
                    f"PORT={port + 1 if port < 65535 else 8080} make run"
                ) from error
            raise Refusal(
                f"cannot listen on {host}:{port} ({error.strerror}); set PORT and POINTSMAN_HOST"
            ) from error
