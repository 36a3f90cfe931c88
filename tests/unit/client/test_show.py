"""What a person at a terminal sees of a turn."""

from __future__ import annotations

import io

from pointsman.session.v1 import event_pb2
from pointsman_client.cli.settings import State
from pointsman_client.cli.show import TurnPrinter
from rich.console import Console


def delta(text: str, offset: int) -> event_pb2.Event:
    return event_pb2.Event(text_delta=event_pb2.TextDelta(text=text, message_id="m", offset=offset))


def printed(*events: event_pb2.Event) -> str:
    out = Console(file=io.StringIO(), width=80)
    printer = TurnPrinter(State("", "", json=False, out=out, err=out))
    for event in events:
        printer.show(event)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


WHOLE = event_pb2.Event(
    assistant_message=event_pb2.AssistantMessage(text="The whole äöü text", message_id="m")
)


def test_text_is_printed_once_whatever_came_of_its_pieces() -> None:
    pieces = [delta("The ", 0), delta("whole ", 4), delta("äöü ", 10), delta("text", 14)]
    for count in range(len(pieces) + 1):
        assert printed(*pieces[:count], WHOLE) == "The whole äöü text\n"


def test_pieces_that_come_again_or_after_a_gap_are_not_printed_twice_or_in_the_wrong_place() -> None:
    assert printed(delta("The ", 0), delta("The whole ", 0), WHOLE) == "The whole äöü text\n"
    assert printed(delta("The ", 0), delta("text", 14), WHOLE) == "The whole äöü text\n"
    assert printed(delta("text", 14), WHOLE) == "The whole äöü text\n"
