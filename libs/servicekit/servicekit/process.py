"""A service's process: configuration in, signals, exit code out."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

import structlog
import uvloop

from servicekit import logs
from servicekit.config import Config, ConfigError, ServiceConfig, load
from servicekit.drain import Drain
from servicekit.http.hosts import AllowedHosts
from servicekit.http.metrics_endpoint import metrics_endpoint
from servicekit.private_data import NotPrivate, no_files_for_others, open_private

_EXIT_CONFIG = 2


def run_service(
    service: str,
    config_class: type[Config],
    app: Callable[[Config, Drain], AbstractAsyncContextManager[Any]],
) -> NoReturn:
    """Run a service until SIGTERM, SIGINT or SIGHUP, then drain and exit with 0. For `__main__`.

    Further signals change nothing: the drain has a bound of its own.

    Exits with 2, and a line on stderr for each variable that is wrong or address that cannot be had.
    """
    try:
        no_files_for_others()
        config = load(config_class, os.environ)
        _close_data(config)
        logs.configure(service, config.log_level)
        with metrics_endpoint(config.metrics_address, AllowedHosts.parse(config.public_hosts)):
            uvloop.run(_run(config, app))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(_EXIT_CONFIG)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is closed. Taking down the interpreter with all that is imported costs a third of a second of
    # processor time, four services one after another, while somebody waits for their prompt.
    os._exit(0)


def _close_data(config: ServiceConfig) -> None:
    try:
        open_private(config.data_dir)
    except NotPrivate as error:
        raise ConfigError(f"POINTSMAN_DATA_DIR: {error}") from None
    except OSError as error:
        raise ConfigError(
            f"POINTSMAN_DATA_DIR: {config.data_dir} cannot be used ({error.strerror}: {error.filename}); "
            "choose another directory"
        ) from None


async def _run(config: Config, app: Callable[[Config, Drain], AbstractAsyncContextManager[Any]]) -> None:
    """Keep the app open until a signal comes."""
    drain = Drain()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    async with app(config, drain):
        await stop.wait()
        structlog.get_logger("servicekit.process").info("draining")
