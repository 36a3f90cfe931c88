"""Where the installation is and who we are: options, else the environment, else a `make run` beside us."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

DEFAULT_URL: Final = "http://localhost:8080"


@dataclass
class State:
    """What every command needs. `json` asks for output that programs read."""

    url: str
    key: str
    json: bool
    out: Console
    err: Console


def find_key(given: str) -> str:
    """Return the key: the given one, POINTSMAN_API_KEY, API_KEY, or what `make run` keeps below `data/`."""
    if given:
        return given
    for name in ("POINTSMAN_API_KEY", "API_KEY"):
        if os.environ.get(name):
            return os.environ[name]
    kept = Path(os.environ.get("POINTSMAN_DATA_DIR", "data")) / "api-key"
    try:
        return kept.read_text().strip()
    except OSError:
        return ""
