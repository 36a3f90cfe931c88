"""CI's second chance: for a handful of tests that failed, loudly, and for nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.suite import ROOT

MAKEFILE = "test: lint\n\t@.venv/bin/pytest\nlint:\n\t@test ! -e untidy\n"
CONFIG = "[tool.pytest.ini_options]\ntestpaths = ['tests']\n"
# Fails until it has been run `times` times.
RACE = """
from pathlib import Path

def ran(name, times):
    count = Path(name)
    count.write_text((count.read_text() if count.exists() else "") + "x")
    assert len(count.read_text()) > times, "the other one was faster"

def test_steady():
    ran("steady", 0)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose `make test` runs what lies in its `tests`."""
    binaries = tmp_path / ".venv/bin"
    binaries.mkdir(parents=True)
    for name, command in {"pytest": f"{sys.executable} -m pytest", "python": sys.executable}.items():
        (binaries / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (binaries / name).chmod(0o755)
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / "pyproject.toml").write_text(CONFIG)
    (tmp_path / "tests").mkdir()
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/once-more", tmp_path / ".ci")
    return tmp_path


def ci(repository: Path, tests: str) -> tuple[int, list[str]]:
    """Run CI's tests; gives the exit status and the lines that were printed."""
    (repository / "tests/test_it.py").write_text(RACE + tests)
    done = subprocess.run(
        [".ci/once-more", "make", "test"],
        cwd=repository,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def test_a_test_that_passes_alone_is_named_in_the_last_line_and_its_failure_stands_above(
    repository: Path,
) -> None:
    status, lines = ci(repository, "def test_race(): ran('race', 1)")
    assert status == 0
    assert lines[-1] == "FLAKY: tests/test_it.py::test_race"
    assert any("the other one was faster" in line for line in lines)
    # Only what failed ran once more.
    assert (repository / "steady").read_text() == "x"


def test_a_test_that_fails_again_fails(repository: Path) -> None:
    status, lines = ci(repository, "def test_wrong(): ran('wrong', 2)")
    assert status != 0
    assert not any("FLAKY" in line for line in lines)


@pytest.mark.parametrize(
    "tests",
    [
        "\n".join(f"def test_{number}(): ran('{number}', 1)" for number in range(6)),
        "import nothing_of_that_name",
        "import pytest\ndef test_away():\n"
        "    if Path('away').exists(): pytest.skip('not today')\n    ran('away', 1)",
    ],
    ids=["more than a handful", "what cannot be collected", "what is skipped then"],
)
def test_nothing_else_gets_a_second_chance(repository: Path, tests: str) -> None:
    status, lines = ci(repository, tests)
    assert status != 0
    assert not any("FLAKY" in line for line in lines)


def test_what_failed_before_this_run_does_not_count(repository: Path) -> None:
    ci(repository, "def test_wrong(): ran('wrong', 9)")
    (repository / "untidy").touch()
    status, lines = ci(repository, "def test_race(): ran('race', 9)")
    assert status != 0
    assert not any("once more" in line for line in lines)


def test_all_is_well(repository: Path) -> None:
    status, lines = ci(repository, "")
    assert status == 0
    assert not any("FLAKY" in line for line in lines)
