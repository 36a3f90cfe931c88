"""Large files in tools, before the real CLI: the turn goes on, and a resumed conversation has all of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import turn_pb2
from servicekit.errors import Failure
from support.runner_house import RunnerHouse, new_id
from support.scripted_anthropic import Reply

OpenRunner = Callable[..., Any]

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


def pdf(size: int) -> bytes:
    """Return a document of one page with so many random bytes in it."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<<>>>>",
        *(
            b"<</Length %d>>stream\n%s\nendstream" % (len(data), data)
            for data in (b"BT ET", os.urandom(size))
        ),
    ]
    out, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    trailer = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(out))
    return out + head + table + trailer


def documents(body: Mapping[str, Any]) -> int:
    """Return how many documents a call to the model has."""
    return str(body["messages"]).count("'type': 'document'")


async def put(house: RunnerHouse, session: str, name: str, data: bytes) -> None:
    """Put a file of any size into the session's workspace."""
    for start in range(0, len(data), 3 << 20):
        await house.write(session, f"{name}.{start:09}", data[start : start + (3 << 20)])
    house.model.script = [
        Reply.tool("Bash", {"command": f"cat {name}.* > {name} && rm {name}.*", "description": "Join"}),
        Reply.text("Joined."),
    ]
    house.model._taken = 0
    assert (await house.run(session, "Join")).finished.result == "Joined."


async def ask(house: RunnerHouse, session: str, *script: Reply, **options: Any) -> turn_pb2.TurnFinished:
    house.model.script, house.model._taken = list(script), 0
    result = await house.run(session, "Go", timeout=120, options=turn_pb2.TurnOptions(**options))
    return result.finished


async def test_a_document_is_remembered_by_the_process_that_comes_after(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Hi.")]) as house:
        session = new_id()
        await house.run(session, "Hello")
        await put(house, session, "large.pdf", pdf(2_800_000))
        read = Reply.tool("Read", {"file_path": "/workspace/large.pdf"})
        finished = await ask(house, session, read, Reply.text("I read it."))
        assert finished.result == "I read it."
        assert documents(house.model.prompts[-1]) == 1
        # Another limit of calls takes another process.
        finished = await ask(house, session, Reply.text("Of random bytes."), max_turns=7)
        assert finished.result == "Of random bytes."
        body = house.model.prompts[-1]
        assert documents(body) == 1
        assert "I read it." in str(body["messages"])
        assert "No response requested." not in str(body["messages"])


@pytest.mark.parametrize("megabytes", [5, 20])
async def test_a_line_of_a_large_file_is_edited(open_runner: OpenRunner, megabytes: int) -> None:
    async with open_runner([Reply.text("Hi.")]) as house:
        session = new_id()
        await house.run(session, "Hello")
        row = b'INSERT INTO "t" VALUES (1, "a name", "another");\n'
        await put(house, session, "dump.sql", b"marker one\n" + row * (megabytes * 1_000_000 // len(row)))
        look = Reply.tool("Read", {"file_path": "/workspace/dump.sql", "limit": 3})
        edit = {"file_path": "/workspace/dump.sql", "old_string": "marker one", "new_string": "marker two"}
        finished = await ask(house, session, look, Reply.tool("Edit", edit), Reply.text("Edited."))
        assert finished.result == "Edited.", finished
        assert (await house.read(session, "dump.sql")).startswith(b"marker two\n")
        finished = await ask(house, session, Reply.text("Yes."), max_turns=7)
        assert finished.result == "Yes.", finished
        assert "Edited." in str(house.model.prompts[-1]["messages"])


async def test_a_file_that_is_too_large_for_an_edit_is_refused_by_the_tool(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Hi.")]) as house:
        session = new_id()
        await house.run(session, "Hello")
        make = "(echo marker one; head -c 40000000 /dev/zero | tr '\\0' 'x') > big.txt"
        edit = {"file_path": "/workspace/big.txt", "old_string": "marker one", "new_string": "marker two"}
        house.model.script = [
            Reply.tool("Bash", {"command": make, "description": "Make"}),
            Reply.tool("Read", {"file_path": "/workspace/big.txt", "limit": 1}),
            Reply.tool("Edit", edit),
            Reply.text("It is too large."),
        ]
        house.model._taken = 0
        result = await house.run(session, "Edit it")
        assert result.finished.result == "It is too large.", result.finished
        assert "files of up to 24 MiB" in result.of("tool_result")[-1].content


async def test_what_there_is_no_room_for_is_reported_and_the_conversation_stays_whole(
    open_runner: OpenRunner,
) -> None:
    async with open_runner([Reply.text("Hi.")]) as house:
        session = new_id()
        await house.run(session, "Hello")
        await put(house, session, "large.pdf", pdf(2_800_000))
        house.transcripts.room = 100_000
        house.model.script = [
            Reply.tool("Read", {"file_path": "/workspace/large.pdf"}),
            Reply.text("I read it."),
        ]
        house.model._taken = 0
        result = await house.run(session, "Read it")
        assert result.finished.result == "I read it."
        (told,) = result.of("transcript_incomplete")
        assert "left out of what the agent remembers" in told.message
        finished = await ask(house, session, Reply.text("Yes."), max_turns=7)
        assert finished.result == "Yes.", finished
        said = str(house.model.prompts[-1]["messages"])
        assert "I read it." in said
        assert "A document of" in said


async def test_a_transcript_that_cannot_be_written_is_reported(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Hi.")]) as house:
        session = new_id()
        await house.run(session, "Hello")
        house.transcripts.failure = Failure(errors_pb2.ERROR_REASON_DATABASE_UNAVAILABLE, "The disk is away.")
        result = await house.run(session, "Again")
        assert result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED
        assert "could not be stored" in result.of("transcript_incomplete")[0].message
