"""From the command line to the exit code."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from servicekit.config import ConfigError
from servicekit.private_data import no_files_for_others
from servicekit.starting import GRPC_VARIABLES

from supervisor.data_dir import DataDir, api_key, claimed
from supervisor.orphans import adopt_orphans
from supervisor.ports import check_listen
from supervisor.refusal import Refusal
from supervisor.services import Ports, check_programs, plan
from supervisor.settings import Settings, load, read_environment
from supervisor.suite import Suite
from supervisor.welcome import welcome

_EXIT_REFUSED: Final = 1
_EXIT_CONFIG: Final = 2
# Of -1000 to 1000. Lower than whatever else runs here, but not lower than what the machine cannot do without.
_OOM_SCORE: Final = -500


def main() -> NoReturn:
    """Run the installation until Ctrl-C or SIGTERM. Exits 0 then, 1 for a refusal, 2 for a bad variable."""
    for name, value in GRPC_VARIABLES.items():
        os.environ.setdefault(name, value)
    no_files_for_others()
    try:
        environ = read_environment(os.environ, Path(".env"))
        settings = load(environ)
        check_programs(settings.sandbox)
        with claimed(settings.data_dir) as data:
            check_listen(settings.host, settings.port)
            asyncio.run(_run(settings, data, environ))
    except ConfigError as error:
        _say(str(error))
        sys.exit(_EXIT_CONFIG)
    except Refusal as refusal:
        _say(str(refusal))
        sys.exit(_EXIT_REFUSED)
    sys.exit(0)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


async def _run(settings: Settings, data: DataDir, environ: Mapping[str, str]) -> None:
    """Run everything until a signal comes; the second one does not wait."""
    adopt_orphans()
    _raise_open_files()
    _lower_oom_score()
    own_key = settings.api_key
    key = own_key.get_secret_value() if own_key else api_key(data)
    ports = Ports.choose()
    services, edge = plan(settings, data, key, environ, ports)
    suite = Suite(services, edge, data)
    _say(f"Starting Pointsman; its logs are in {data.logs}")
    stopping = _on_signals(suite)
    keeping = asyncio.create_task(suite.keep())
    kept_in = None if own_key else data.path / "api-key"
    tls = settings.tls_cert is not None
    text = welcome(settings.host, settings.port, key, kept_in, data.logs, tls=tls)
    greeting = asyncio.create_task(_greet(suite, text))
    waiting = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({keeping, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            keeping.result()
    finally:
        greeting.cancel()
        waiting.cancel()
        await suite.stop()
        keeping.cancel()
        with suppress(asyncio.CancelledError, Refusal):
            await keeping
        suite.close()


async def _greet(suite: Suite, text: str) -> None:
    await suite.ready()
    print(text, flush=True)


def _on_signals(suite: Suite) -> asyncio.Event:
    """Return what is set by the first SIGINT or SIGTERM. The second kills."""
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            suite.kill()
            return
        _say("Stopping; once more to stop at once.")
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    return stopping


def _lower_oom_score() -> None:
    """Make the kernel's OOM killer take other processes first. What we start inherits it.

    Only root with CAP_SYS_RESOURCE may. Without, services keep the score that they were started with.
    Sandboxes have the highest in any case, and the runner's log has both.
    """
    score = Path("/proc/self/oom_score_adj")
    with suppress(PermissionError):
        score.write_text(str(min(_OOM_SCORE, int(score.read_text()))))


def _raise_open_files() -> None:
    """Let each process have as many open files as it may: every connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
