"""One log line and one measurement per call."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import structlog
from pointsman.errors.v1 import errors_pb2

from servicekit.context import Call
from servicekit.errors import Failure
from servicekit.metrics import call_metrics

# Called every few seconds by every probe.
_QUIET: Final = ("grpc.health.v1.Health/", "grpc.reflection.")

_log = structlog.get_logger("servicekit.calls")


@dataclass
class Outcome:
    """How a call ended, filled in while it does."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    fault: BaseException | None = None
    """What to write a traceback of: an exception that nobody expected."""
    seconds: float = 0.0
    """How long it took, once it is over."""
    _started: float = field(default_factory=time.perf_counter)

    def over(self) -> None:
        """Note that the call is over now."""
        self.seconds = time.perf_counter() - self._started

    def failed(self, failure: Failure, error: BaseException | None = None) -> None:
        """Note the failure that the caller is told, and the error behind it when that is a fault of ours."""
        self.code = failure.code
        self.reason = failure.reason_name
        if failure.reason == errors_pb2.ERROR_REASON_INTERNAL:
            self.fault = error


def record(call: Call, outcome: Outcome, *, known: bool) -> None:
    """Write the call's log line and count it. `known` is False for a method that does not exist."""
    # Names that callers make up would make a new time series each.
    service, _, method = call.method.partition("/") if known else ("unknown", "", "unknown")
    call_metrics().observe(service, method, outcome.code.name, outcome.seconds)
    fields: dict[str, Any] = {
        "method": call.method if known else call.method[:200],
        "code": outcome.code.name,
        "duration_ms": round(outcome.seconds * 1000, 2),
        "request_id": call.request_id,
    }
    if outcome.reason:
        fields["reason"] = outcome.reason
    if call.passport is not None:
        fields["tenant"] = call.passport.tenant
        if call.passport.account is not None:
            fields["account"] = call.passport.account
    fields.update(call.log_fields)
    if outcome.fault is not None:
        _log.error("call", exc_info=outcome.fault, **fields)
    elif call.method.startswith(_QUIET):
        _log.debug("call", **fields)
    else:
        _log.info("call", **fields)
