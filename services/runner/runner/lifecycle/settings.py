"""What a sandbox has beyond its workspace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import session_service_pb2
from servicekit.errors import Failure


@dataclass(frozen=True, order=True)
class Share:
    """A folder of another session's workspace, seen at `/shared/{name}`. `path` is '' for the whole of it."""

    name: str
    session_id: str
    path: str


@dataclass(frozen=True)
class Settings:
    """What a session asks for. Equal ones need no other sandbox, in whatever order they were written."""

    shares: tuple[Share, ...] = ()
    egress: tuple[str, ...] = ()
    """Hosts, or `*.host` for all below it, in lower case."""
    template: str = ""
    """`templates/{id}`, '' for none."""

    @classmethod
    def of(cls, asked: pb.SandboxSettings) -> Settings:
        """Read them. Raises Failure INVALID_FIELD when two folders have one name."""
        return cls(
            shares=_shares(asked.shared_folders),
            egress=tuple(sorted({host.lower() for host in asked.egress_hosts})),
            template=asked.template,
        )


def _shares(asked: Iterable[session_service_pb2.SharedFolder]) -> tuple[Share, ...]:
    shares = sorted(Share(each.name, each.session.removeprefix("sessions/"), each.path) for each in asked)
    if len({share.name for share in shares}) < len(shares):
        rule = "two have the same name"
        raise Failure(
            errors_pb2.ERROR_REASON_INVALID_FIELD,
            f"sandbox.shared_folders: {rule}",
            fields=[("sandbox.shared_folders", rule)],
        )
    return tuple(shares)
