"""The script that an operator runs after an installation or an upgrade."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from servicekit.testing import free_port
from support.suite import Suite

SMOKE = Path(__file__).parents[2] / "deploy" / "smoke.sh"

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


def smoke(port: int, **environ: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run(
        [SMOKE, str(port)], env=variables, capture_output=True, text=True, timeout=200, check=False
    )


def test_it_passes_on_a_suite_that_works_and_leaves_no_session(suite: Suite) -> None:
    done = smoke(suite.port, POINTSMAN_DATA_DIR=str(suite.data_dir))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok ") == 7
    assert done.stdout.endswith(f"Pointsman at {suite.url} works.\n")
    assert suite.key not in done.stdout + done.stderr


def test_a_wrong_key_fails_by_name(suite: Suite) -> None:
    done = smoke(suite.port, API_KEY="not-the-key-at-all")
    assert done.returncode == 1
    assert "FAIL  models are listed" in done.stderr
    assert "CREDENTIAL_INVALID" in done.stderr


def test_nobody_there_fails_at_once() -> None:
    done = smoke(free_port(), API_KEY="any-key-at-all")
    assert done.returncode == 1
    assert done.stderr.startswith("FAIL  every service is healthy")


def test_without_a_key_it_says_how_to_give_one(tmp_path: Path) -> None:
    done = smoke(free_port(), POINTSMAN_DATA_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "set API_KEY" in done.stderr
