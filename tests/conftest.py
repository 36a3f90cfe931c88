"""Fixtures that more than one area uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from support.suite import Suite, running


@pytest.fixture(scope="session")
def suite() -> Iterator[Suite]:
    """The whole of Pointsman without any credential, once for all tests. To harm one, `make_suite`."""
    with running() as started:
        yield started


@pytest.fixture
def make_suite() -> Iterator[Callable[..., Suite]]:
    """Start an installation of the test's own: `make_suite(MODEL="…")`. It is stopped after the test."""
    with ExitStack() as stack:

        def make(**environ: str) -> Suite:
            return stack.enter_context(running(environ))

        yield make
