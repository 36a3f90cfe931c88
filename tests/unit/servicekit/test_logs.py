import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from servicekit import logs
from servicekit.context import acting_as
from servicekit.passport import Passport

PASSPORT = Passport("acme", None, "alice", frozenset())


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a process that called `configure` has written."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    logs.configure("demo", "info")
    yield stream
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def lines(stderr: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.getvalue().splitlines()]


def test_a_line_is_json_with_service_level_and_time(stderr: io.StringIO) -> None:
    structlog.get_logger("any").info("hello", turn="t1")
    (line,) = lines(stderr)
    assert (line["event"], line["service"], line["level"], line["turn"]) == ("hello", "demo", "info", "t1")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    "key",
    ["authorization", "token", "api_key", "passport", "key", "X-Api-Key", "session_token", "db.password"],
)
def test_values_under_secret_names_do_not_show(stderr: io.StringIO, key: str) -> None:
    structlog.get_logger("any").info(
        "hello", **{key: "hunter2"}, headers={key: "hunter2"}, all=[{key: ["hunter2"]}]
    )
    text = stderr.getvalue()
    assert "hunter2" not in text
    assert json.loads(text)[key] == logs.REDACTED


def test_counts_and_names_show(stderr: io.StringIO) -> None:
    structlog.get_logger("any").info("hello", input_tokens=12, credential_id="key-7", monkey="george")
    (line,) = lines(stderr)
    assert (line["input_tokens"], line["credential_id"], line["monkey"]) == (12, "key-7", "george")


@pytest.mark.parametrize(
    "secret",
    [
        "Bearer hunter2",
        "sk-ant-hunter2hunter2",
        "eyJhbGciOi.eyJpc3M.hunter2",
        "pm_ab12_hunter2hunter2hunter2hunter2hunter2hunter2",
        "pst_hunter2hunter2hunter2hunter2",
    ],
)
def test_texts_in_the_form_of_a_secret_do_not_show(stderr: io.StringIO, secret: str) -> None:
    try:
        raise ValueError(f"bad header {secret}")
    except ValueError:
        structlog.get_logger("any").exception("failed", detail=f"it was {secret}!")
    text = stderr.getvalue()
    assert "hunter2" not in text
    assert "ValueError: bad header" in json.loads(text)["exception"]


def test_a_line_within_a_call_has_its_request_id(stderr: io.StringIO) -> None:
    with acting_as(PASSPORT, "r-1"):
        structlog.get_logger("any").info("inside")
    structlog.get_logger("any").info("outside")
    inside, outside = lines(stderr)
    assert inside["request_id"] == "r-1"
    assert "request_id" not in outside


def test_libraries_that_use_logging_come_out_the_same(stderr: io.StringIO) -> None:
    logging.getLogger("library").warning("careful: %s", "Bearer hunter2")
    (line,) = lines(stderr)
    assert (line["service"], line["level"], line["logger"]) == ("demo", "warning", "library")
    assert line["event"] == f"careful: {logs.REDACTED}"


def test_below_the_level_nothing_is_written(stderr: io.StringIO) -> None:
    structlog.get_logger("any").debug("quiet")
    assert lines(stderr) == []
