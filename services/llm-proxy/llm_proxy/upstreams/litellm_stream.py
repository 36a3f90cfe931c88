"""Puts the tool calls of an OpenAI stream one after another, before LiteLLM translates them.

LiteLLM 1.106.2 takes the first call of a chunk and joins the arguments of all to it, and gives the pieces
of calls that interleave to whichever call began last (`adapters/streaming_iterator.py`: one open block,
without a look at a call's index). So several calls of one answer became one call with unreadable arguments.
Anthropic's API has one block after another, and so have the chunks here: the first call streams, later ones
wait for the end of the answer.

LiteLLM also ends a stream with `stop` that the provider closed without a reason to stop
(`CustomStreamWrapper.finish_reason_handler`), so that an answer that broke off looked whole. It is an error
here.

Where the provider reports no tokens, LiteLLM counts them with a tokenizer and says so nowhere. Such a count
is taken out here, so that the call is charged an estimate that is marked as one.
"""

from __future__ import annotations

import copy
import importlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, Self

_MODULE: Final = "litellm.llms.anthropic.pass_through.adapters.streaming_iterator"
_MARK: Final = "_pointsman_one_call_at_a_time"
# Of one answer; more is no list of calls.
_MOST_CALLS: Final = 1000


def install() -> None:
    """Make LiteLLM's translation read its chunks through this. A second time changes nothing."""
    wrapper = importlib.import_module(_MODULE).AnthropicStreamWrapper
    original = wrapper.__init__
    if getattr(original, _MARK, False):
        return

    def init(self: Any, completion_stream: Any, *args: Any, **kwargs: Any) -> None:
        original(self, OneCallAtATime(completion_stream), *args, **kwargs)

    setattr(init, _MARK, True)
    wrapper.__init__ = init


class BrokenOffError(Exception):
    """The provider closed the stream in the middle of an answer."""


class OneCallAtATime:
    """Gives a stream's chunks with at most one tool call in each, and all of a call before the next."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._source: AsyncIterator[Any] | None = None
        self._ready: deque[Any] = deque()
        self._calls: dict[Any, str] = {}
        """The id of the call that each index stands for now."""
        self._first: Any = None
        """The key of the call that streams."""
        self._waiting: dict[Any, list[Any]] = {}
        """Chunks of the calls that wait, by the call's key."""
        self._ended = False

    def __getattr__(self, name: str) -> Any:
        # LiteLLM reads attributes of the stream that it knows.
        return getattr(self._stream, name)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._source is None:
            self._source = aiter(self._stream)
        while not self._ready:
            chunk = await anext(self._source, None)
            if chunk is None:
                if self._ended or not self._waiting:
                    raise StopAsyncIteration
                self._ended = True
                self._ready.extend(self._release())
                continue
            if getattr(chunk, "usage", None) is not None and self._uncounted():
                chunk.usage = type(chunk.usage)(prompt_tokens=0, completion_tokens=0, total_tokens=0)
            self._ready.extend(self._taken(chunk))
        return self._ready.popleft()

    def _taken(self, chunk: Any) -> Iterator[Any]:
        choice: Any = chunk.choices[0] if getattr(chunk, "choices", None) else None
        calls = list(getattr(getattr(choice, "delta", None), "tool_calls", None) or ())
        ends = getattr(choice, "finish_reason", None) is not None
        if ends and self._invented():
            raise BrokenOffError("the stream ended before the answer did")
        if not calls or (len(calls) == 1 and not ends):
            yield from self._release() if ends else ()
            yield from self._sorted(chunk) if calls else (chunk,)
            return
        if _has_text(choice.delta):
            yield _part(chunk, None)
        for call in calls:
            yield from self._sorted(_part(chunk, call))
        if ends:
            yield from self._release()
            yield _end(chunk)

    def _invented(self) -> bool:
        """Whether LiteLLM made up the reason to stop, because the provider closed the stream without one."""
        names = ("received_finish_reason", "intermittent_finish_reason")
        return all(getattr(self._stream, name, "unknown") is None for name in names)

    def _uncounted(self) -> bool:
        """Whether the provider has reported no tokens, as far as LiteLLM keeps what came."""
        kept = getattr(self._stream, "chunks", None)
        return isinstance(kept, list) and all(getattr(chunk, "usage", None) is None for chunk in kept)

    def _sorted(self, chunk: Any) -> Iterator[Any]:
        """Give a chunk with one call on, or keep it until the call before it is whole."""
        call = chunk.choices[0].delta.tool_calls[0]
        index = call.index or 0
        name = getattr(call.function, "name", None)
        if index not in self._calls or (call.id and name and call.id != self._calls[index]):
            # Some servers give each call the same index, and another id.
            self._calls[index] = call.id or f"index {index}"
        key = (index, self._calls[index])
        if self._first is None:
            self._first = key
        if key == self._first:
            yield chunk
        elif key in self._waiting or len(self._waiting) < _MOST_CALLS:
            self._waiting.setdefault(key, []).append(chunk)

    def _release(self) -> Iterator[Any]:
        for chunks in self._waiting.values():
            yield from chunks
        self._waiting.clear()


def _has_text(delta: Any) -> bool:
    return bool(getattr(delta, "content", None) or getattr(delta, "reasoning_content", None))


def _part(chunk: Any, call: Any) -> Any:
    """Return the chunk with this call alone, or with its text and no call."""
    part = copy.deepcopy(chunk)
    part.choices[0].finish_reason = None
    if hasattr(part, "usage"):
        part.usage = None
    delta = part.choices[0].delta
    delta.tool_calls = [call] if call is not None else None
    if call is not None:
        _without_text(delta)
    return part


def _end(chunk: Any) -> Any:
    """Return the chunk with its reason to stop and its usage alone."""
    end = copy.deepcopy(chunk)
    end.choices[0].delta.tool_calls = None
    _without_text(end.choices[0].delta)
    return end


def _without_text(delta: Any) -> None:
    delta.content = None
    for name in ("reasoning_content", "thinking_blocks"):
        if getattr(delta, name, None) is not None:
            setattr(delta, name, None)
