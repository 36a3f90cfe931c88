"""The table of errors as prose.

Run at the repository's root: `python -m servicekit.errors_doc > docs/errors.md`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import grpc
from pointsman.errors.v1 import errors_pb2

from servicekit.errors import CODES, reason_name

SOURCE: Final = Path("protos/pointsman/errors/v1/errors.proto")

_VALUE: Final = re.compile(r"((?:^ *//.*\n)+) *(ERROR_REASON_\w+) = \d+;", re.MULTILINE)

_ADVICE: Final[Mapping[grpc.StatusCode, str]] = {
    grpc.StatusCode.INVALID_ARGUMENT: "The request is wrong whatever the state. Change it.",
    grpc.StatusCode.OUT_OF_RANGE: "The cursor is outside of what exists. The metadata says what does.",
    grpc.StatusCode.UNAUTHENTICATED: "We do not know who is calling. Bring a valid credential.",
    grpc.StatusCode.PERMISSION_DENIED: "We know who is calling, and the answer is no.",
    grpc.StatusCode.NOT_FOUND: "There is none, or it is another tenant's: the two look exactly alike.",
    grpc.StatusCode.ALREADY_EXISTS: "The id was used before, for something else. Make a new one.",
    grpc.StatusCode.FAILED_PRECONDITION: "The request is right, and the state is not. Change that first.",
    grpc.StatusCode.ABORTED: "Somebody else was first, or a machine is gone. Read the state, then decide.",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "A limit is reached. With a `RetryInfo`, come back after its delay.",
    grpc.StatusCode.CANCELLED: "It was ended on purpose.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "It took longer than it was given. It may have had effects.",
    grpc.StatusCode.UNAVAILABLE: "Not now. Try again, ever later; mutations with the same `request_id`.",
    grpc.StatusCode.UNIMPLEMENTED: "The method does not exist here.",
    grpc.StatusCode.INTERNAL: "A fault on our side. Trying again may help; reporting it does.",
}

_INTRODUCTION: Final = """\
# Errors

<!-- Written by `python -m servicekit.errors_doc` from errors.proto and servicekit/errors.py. -->

Every error has a gRPC status code, a message for a person, and a *reason* for programs. The reason is in a
`google.rpc.ErrorInfo` with the domain `pointsman`, in the status details; `metadata` there has the values
that the reason documents. Wrong fields are named in a `google.rpc.BadRequest`. Where waiting helps and we
know how long, there is a `google.rpc.RetryInfo`. Over JSON it looks like this:

```json
{
  "code": 5,
  "message": "No session sessions/3f1c... in this tenant.",
  "details": [{
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "SESSION_NOT_FOUND",
    "domain": "pointsman"
  }]
}
```

Once a stream has begun, its error is also its last event, because JSON and SSE clients never see a late
status. Go by the reason where you know it, else by the code: new reasons may come, and codes keep their
meaning.
"""


def comments(proto: str) -> dict[str, str]:
    """Return each value's comment in `errors.proto`, by its full name, as one line."""
    return {
        name: " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
        for comment, name in _VALUE.findall(proto)
    }


def render(proto: str) -> str:
    """Return the page, made from the text of `errors.proto` and the table of codes."""
    said = comments(proto)
    parts = [_INTRODUCTION]
    for code, advice in _ADVICE.items():
        rows = [
            f"| `{reason_name(reason)}` | {_without_code(said[errors_pb2.ErrorReason.Name(reason)])} |"
            for reason in sorted(CODES)
            if CODES[reason] is code
        ]
        parts.append(
            "\n".join([f"## {code.name}", "", advice, "", "| reason | meaning |", "|---|---|", *rows, ""])
        )
    return "\n".join(parts)


def _without_code(comment: str) -> str:
    """Drop the leading code, which is the heading already, and what a table cannot hold."""
    return comment.partition(". ")[2].replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render(SOURCE.read_text()))
