"""What a runner that was killed has written down."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import event_pb2, turn_pb2
from runner.names import SessionRef, TurnRef
from runner.turns.journal import Journal, Past, TurnJournal
from servicekit.errors import Failure

SESSION = SessionRef("acme", "11111111-1111-1111-1111-111111111111")
TURN = TurnRef(SESSION, "22222222-2222-2222-2222-222222222222")
NEXT = TurnRef(SESSION, "33333333-3333-3333-3333-333333333333")


def said(index: int, text: str) -> pb.RunTurnResponse:
    message = event_pb2.AssistantMessage(text=text)
    return pb.RunTurnResponse(index=index, event=event_pb2.Event(assistant_message=message))


END = event_pb2.Event(turn_finished=turn_pb2.TurnFinished(result="2"))


def the_file(root: Path) -> Path:
    (path,) = (each for each in root.glob("*/*") if each.is_file())
    return path


def known(root: Path, ref: TurnRef = TURN) -> Past:
    past = Journal(root).read(ref)
    assert past is not None
    return past


def begun(root: Path, *texts: str) -> TurnJournal:
    turn = Journal(root).begin(TURN, 3)
    for index, text in enumerate(texts, 1):
        turn.item(said(index, text))
    return turn


def test_a_turn_is_read_as_it_was_written(tmp_path: Path) -> None:
    turn = begun(tmp_path, "1")
    turn.item(pb.RunTurnResponse(index=2, event=END))
    past = known(tmp_path)
    assert (past.epoch, past.acted, past.finished) == (3, False, True)
    assert past.items == (said(1, "1"), pb.RunTurnResponse(index=2, event=END))
    assert Journal(tmp_path).epoch(TURN) == 3


def test_that_a_tool_may_have_run_is_known_in_its_place(tmp_path: Path) -> None:
    turn = begun(tmp_path, "1")
    assert not known(tmp_path).acted
    turn.acts()
    assert known(tmp_path).acted
    turn.item(said(2, "2"))
    assert (len(known(tmp_path).items), known(tmp_path).finished) == (2, False)


def test_only_the_newest_turn_of_a_session_is_kept(tmp_path: Path) -> None:
    begun(tmp_path, "1").acts()
    Journal(tmp_path).begin(NEXT, 1).close()
    assert Journal(tmp_path).read(TURN) is None
    assert Journal(tmp_path).epoch(TURN) == 0
    assert known(tmp_path, NEXT).items == ()


def test_another_tenants_session_of_the_same_id_is_another(tmp_path: Path) -> None:
    begun(tmp_path, "1")
    foreign = TurnRef(SessionRef("other", SESSION.session_id), TURN.turn_id)
    assert Journal(tmp_path).read(foreign) is None


def test_wherever_a_file_is_cut_what_is_whole_before_is_read(tmp_path: Path) -> None:
    turn = begun(tmp_path, "first", "second")
    turn.acts()
    turn.close()
    path = the_file(tmp_path)
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        past = Journal(tmp_path).read(TURN)
        assert past is None or [*past.items] == [said(1, "first"), said(2, "second")][: len(past.items)]
        assert past is None or not past.acted


def test_after_an_item_that_is_missing_none_is_told_and_yet_that_a_tool_may_have_run(tmp_path: Path) -> None:
    turn = begun(tmp_path, "1")
    turn.item(said(3, "3"))
    turn.acts()
    past = known(tmp_path)
    assert ([*past.items], past.acted) == ([said(1, "1")], True)


def test_no_tool_runs_that_is_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = begun(tmp_path)

    def full(_file: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    turn.item(said(1, "1"))
    with pytest.raises(Failure) as raised:
        turn.acts()
    assert raised.value.reason == errors_pb2.ERROR_REASON_DISK_FULL
    with pytest.raises(Failure) as raised:
        Journal(tmp_path).begin(NEXT, 1)
    assert raised.value.reason == errors_pb2.ERROR_REASON_DISK_FULL


def test_a_half_written_item_does_not_hide_what_comes_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = begun(tmp_path, "1")
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda file, data: write(file, data[:7]))
        turn.item(said(2, "2"))
    turn.acts()
    assert known(tmp_path).acted


def test_it_says_since_when_it_knows_of_every_turn(tmp_path: Path) -> None:
    first = Journal(tmp_path).since
    assert Journal(tmp_path).since == first > 0


def test_a_deleted_session_leaves_nothing(tmp_path: Path) -> None:
    begun(tmp_path, "1").close()
    journal = Journal(tmp_path)
    journal.forget(SESSION)
    journal.forget(SESSION)
    assert journal.read(TURN) is None
    assert not [each for each in tmp_path.glob("*/*") if each.is_file()]


def test_after_its_end_nothing_is_written(tmp_path: Path) -> None:
    turn = begun(tmp_path, "1")
    turn.close()
    turn.close()
    turn.item(said(2, "2"))
    with pytest.raises(Failure):
        turn.acts()
    assert len(known(tmp_path).items) == 1


def test_a_file_that_cannot_be_read_is_not_one_that_is_not_there(tmp_path: Path) -> None:
    begun(tmp_path, "1").close()
    path = the_file(tmp_path)
    path.unlink()
    # Opening a folder as a file fails, as a disk that is broken does.
    path.mkdir()
    for ask in (Journal(tmp_path).read, Journal(tmp_path).epoch):
        with pytest.raises(Failure) as raised:
            ask(TURN)
        assert raised.value.reason == errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE
