"""The scripted peers as a process that can be killed: `python -m support.session_peers_process`.

Arguments: address of the runner, address of llm-proxy, directory of keys, and the file to write the journal
to. Each line of the journal is a JSON list: seconds, `boot`, `start` or `end`, and the turn.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from servicekit.drain import Drain
from servicekit.passport import PassportVerifier
from servicekit.serving import serving
from support.session_models import ScriptedModels
from support.session_runner import ScriptedRunner


class JournalFile(list[tuple[float, str, str]]):
    """A journal that outlives the process: what is appended is in the file before `append` returns."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("a", buffering=1)

    def append(self, item: tuple[float, str, str]) -> None:
        self._file.write(json.dumps(item) + "\n")


async def main(runner_address: str, models_address: str, keys: Path, journal: Path) -> None:
    runner = ScriptedRunner()
    runner.journal = JournalFile(journal)
    runner.notes = journal.with_suffix(".notes")
    runner.notes.mkdir(exist_ok=True)
    verifier = PassportVerifier.from_file(keys / "jwks.json")
    async with (
        serving(
            service="runner",
            address=runner_address,
            servicers=[runner.as_servicer()],
            verifier=verifier,
            drain=Drain(),
        ),
        serving(
            service="llm-proxy",
            address=models_address,
            servicers=[ScriptedModels().as_servicer()],
            verifier=verifier,
            drain=Drain(),
        ),
    ):
        runner.journal.append((time.monotonic(), "boot", ""))
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
