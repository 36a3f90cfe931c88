"""The transcripts an agent is resumed from, as files of Claude Code's own layout."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PROJECT: Final = "-workspace"
"""The SDK's project key of /workspace."""
# What the CLI calls them; it came out of a sandbox, and here it becomes a path of the host.
_SUB_AGENT: Final = re.compile(r"subagents(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){1,4}")
_METADATA: Final = "agent_metadata"


@dataclass(frozen=True)
class Transcript:
    """A conversation's lines, and those of its sub-agents, so that the agent can ask them to go on."""

    lines: Sequence[bytes] = ()
    sub_agents: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    """By subpath, such as `subagents/agent-a6ac109e7ff97a20e`."""


def is_sub_agent(subpath: str) -> bool:
    """Return whether it is the subpath of a sub-agent's transcript, and nothing that leaves its folder."""
    return _SUB_AGENT.fullmatch(subpath) is not None


def write_seed(folder: Path, agent_id: str, transcript: Transcript) -> None:
    """Write what is copied into the home of the agent that resumes, nothing for a new conversation."""
    if not transcript.lines:
        return
    project = folder / "projects" / PROJECT
    project.mkdir(parents=True)
    _write(project / f"{agent_id}.jsonl", transcript.lines)
    for subpath, lines in transcript.sub_agents.items():
        if not is_sub_agent(subpath):
            continue
        place = project / agent_id / subpath
        place.parent.mkdir(parents=True, exist_ok=True)
        said, about = _without_metadata(lines)
        _write(place.with_name(f"{place.name}.jsonl"), said)
        if about is not None:
            place.with_name(f"{place.name}.meta.json").write_text(json.dumps(about))


def _without_metadata(lines: Sequence[bytes]) -> tuple[list[bytes], dict[str, object] | None]:
    """Take out what the CLI keeps in a file beside a sub-agent's transcript; the last of it counts."""
    said: list[bytes] = []
    about: dict[str, object] | None = None
    for line in lines:
        entry = json.loads(line)
        if entry.get("type") == _METADATA:
            about = {name: value for name, value in entry.items() if name != "type"}
        else:
            said.append(line)
    return said, about


def _write(path: Path, lines: Sequence[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(line + b"\n" for line in lines)
