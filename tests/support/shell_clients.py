"""The command lines that the README tells people to type, as functions.

Every function runs the real program against a running installation and gives
back what it printed, parsed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from support.required import program

# A turn of the demo model takes about a second; a busy machine takes its time.
TIMEOUT = 120


@dataclass(frozen=True)
class Answer:
    """What a program printed, and its exit status."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """The one JSON document that was printed."""
        return json.loads(self.out)

    def stream(self) -> list[dict[str, Any]]:
        """Every JSON document that was printed, in order."""
        return list(_documents(self.out))


def grpcurl(
    port: int, method: str, data: Any = None, *, key: str | None = None, extra: list[str] | None = None
) -> Answer:
    """Call `method` with `grpcurl -plaintext`."""
    binary = program("grpcurl", install="go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3")
    arguments = [binary, "-plaintext", *(extra or [])]
    if key is not None:
        arguments += ["-H", f"authorization: Bearer {key}"]
    if data is not None:
        arguments += ["-d", json.dumps(data)]
    return _run([*arguments, f"localhost:{port}", *method.split(" ")])


def buf_curl(port: int, method: str, data: Any, *, key: str, protocol: str) -> Answer:
    """Call `method` with `buf curl`, by reflection, over `grpc` or `grpcweb`."""
    binary = program("buf", install="it comes with make test")
    headers = ["-H", f"authorization: Bearer {key}"]
    arguments = [binary, "curl", "--protocol", protocol, "--http2-prior-knowledge", *headers]
    return _run([*arguments, "-d", json.dumps(data), f"http://localhost:{port}/{method}"])


def curl(url: str, *arguments: str) -> tuple[int, str]:
    """Fetch `url` with curl; gives HTTP status and body."""
    binary = program("curl", install="apt-get install curl")
    answer = _run([binary, "-sS", "-w", "\n%{http_code}", *arguments, url])
    body, _, status = answer.out.rpartition("\n")
    return int(status), body


def curl_json(url: str, data: Any, *, key: str | None) -> tuple[int, Any]:
    """POST `data` as JSON with curl; gives HTTP status and the parsed body."""
    headers = ["-H", "Content-Type: application/json"]
    if key is not None:
        headers += ["-H", f"Authorization: Bearer {key}"]
    body = data if isinstance(data, str) else json.dumps(data)
    status, answer = curl(url, "-X", "POST", *headers, "-d", body)
    return status, json.loads(answer)


def events(answer: Answer) -> list[dict[str, Any]]:
    """The events of a streamed answer of RunTurn or WatchEvents."""
    return [item["event"] for item in answer.stream()]


def kind(event: dict[str, Any]) -> str:
    """Which kind an event is, as the contract names it in JSON."""
    (name,) = event.keys() - {"sequence", "createTime", "turn", "parentToolUseId"}
    return name


def sequences(stream: list[dict[str, Any]]) -> list[int]:
    """The sequences of the kept events."""
    return [int(event["sequence"]) for event in stream if int(event.get("sequence", 0)) > 0]


def _run(arguments: list[str]) -> Answer:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    return Answer(status=done.returncode, out=done.stdout, err=done.stderr)


def _documents(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    rest = text.lstrip()
    while rest:
        document, end = decoder.raw_decode(rest)
        yield document
        rest = rest[end:].lstrip()
