"""The browser client in real Chromium: against the whole suite with a scripted model, and by itself.

What is tested is in `web/e2e/*.spec.ts`; each file is one test here. Screenshots of the main states are left
in `web/screenshots`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.required import program
from support.suite import ROOT, Suite, running
from support.web_house import WebHouse, web_house

WEB = ROOT / "web"
# One spec file at most, on a machine that is busy with other tests.
SPEC_SECONDS = 600

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(SPEC_SECONDS + 120)]


@pytest.fixture(scope="module")
def built() -> None:
    """The client is built, as `make web` builds it."""
    for name in ("node", "npm", "chromium"):
        program(name, install="the browser's tests need Node.js and Chromium")
    done = subprocess.run(
        [ROOT / "deploy/setup/web.sh"],
        check=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    # A build that fails leaves the last page in place, for whoever only wants to run Pointsman.
    assert "left out" not in done.stderr
    assert (WEB / "dist/index.html").exists()


@pytest.fixture(scope="module")
def house(built: None) -> Iterator[tuple[Suite, WebHouse]]:
    """A suite of its own, whose groq is the scripted model: its services get killed."""
    with (
        web_house() as house,
        running(
            {
                "GROQ_API_KEY": "gsk_scripted",
                "GROQ_API_BASE": f"{house.url}/v1",
                # A name under which the page is no secure context, as on another machine.
                "POINTSMAN_PUBLIC_HOSTS": "pointsman.test",
            }
        ) as suite,
    ):
        house.suite = suite
        yield suite, house


def playwright(spec: str, *, url: str, key: str, house: str = "") -> None:
    """Run one spec file, and fail with what it printed."""
    environ = {
        **os.environ,
        "POINTSMAN_URL": url,
        "POINTSMAN_KEY": key,
        "POINTSMAN_HOUSE": house,
        "CHROMIUM": shutil.which("chromium") or "",
        # Results of one run do not remove those of another.
        "PLAYWRIGHT_OUTPUT": f"test-results/{spec}",
    }
    done = subprocess.run(
        [WEB / "node_modules/.bin/playwright", "test", f"e2e/{spec}.spec.ts"],
        cwd=WEB,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SPEC_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize(
    "spec", ["first", "steering", "workspace", "templates", "hostile", "looks", "resilience"]
)
def test_a_person_in_a_browser(spec: str, house: tuple[Suite, WebHouse]) -> None:
    suite, model = house
    playwright(spec, url=suite.url, key=suite.key, house=model.url)


@contextmanager
def _printing(command: list[str | Path], start: str, cwd: Path, **environ: str) -> Iterator[str]:
    """Run a server until the end of the block; gives what it printed after `start`, its address."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    printed: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)
            if start in line:
                yield line.split(start)[1].split()[0].rstrip(",/")
                break
        else:
            raise AssertionError("no address in:\n" + "".join(printed))
    finally:
        process.terminate()
        process.wait(60)


def test_ten_thousand_events_and_a_server_that_cuts_connections(built: None) -> None:
    with _printing(["node", "dev/backend.mjs"], "Scripted backend on ", WEB, PORT="0") as url:
        playwright("long", url=url, key="dev-key")


def test_the_example_page_for_web_developers(
    house: tuple[Suite, WebHouse], tmp_path_factory: pytest.TempPathFactory
) -> None:
    suite, _ = house
    # A copy below `web`, so that it finds the packages that are installed there instead of its own.
    example = WEB / "test-results" / tmp_path_factory.mktemp("example").name
    shutil.copytree(ROOT / "docs/web-example", example, ignore=shutil.ignore_patterns("node_modules", "gen"))
    buf = shutil.which("buf", path=f"{ROOT / '.venv/bin'}:{os.environ['PATH']}")
    assert buf is not None
    plugin = WEB / "node_modules/.bin"
    try:
        generate: list[str | Path] = [buf, "generate", ROOT, "--template", "buf.gen.yaml"]
        environ = {**os.environ, "PATH": f"{plugin}:{os.environ['PATH']}"}
        subprocess.run(generate, cwd=example, env=environ, check=True, timeout=120)
        tsc: list[str | Path] = [plugin / "tsc", "--noEmit", "--strict", "--skipLibCheck", "--allowImportingTsExtensions"]
        kind = ["--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "--ignoreConfig"]
        subprocess.run([*tsc, *kind, "main.ts"], cwd=example, check=True, timeout=120)
        vite: list[str | Path] = [plugin / "vite", "--port", "0", "--host", "127.0.0.1"]
        with _printing(vite, "Local:", example, POINTSMAN_URL=suite.url) as url:
            playwright("example", url=url, key=suite.key)
    finally:
        shutil.rmtree(example, ignore_errors=True)


def test_the_example_page_is_as_short_as_it_says() -> None:
    page = [ROOT / "docs/web-example" / name for name in ("main.ts", "index.html")]
    assert sum(len(path.read_text().splitlines()) for path in page) <= 60


def test_log_resume_and_text_by_themselves(built: None) -> None:
    done = subprocess.run(
        ["npm", "test"],
        cwd=WEB,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout[-8000:]


def _set_up(folder: Path, *programs: str) -> subprocess.CompletedProcess[str]:
    """Run web.sh in a folder of its own, with these programs alone; `npm` is one that fails at length."""
    (folder / "deploy/setup").mkdir(parents=True)
    (folder / "web").mkdir()
    shutil.copy(ROOT / "deploy/setup/web.sh", folder / "deploy/setup")
    shutil.copy(WEB / "package.json", folder / "web")
    (folder / "bin").mkdir()
    for name in programs:
        if name == "npm":
            (folder / "bin/npm").write_text(
                "#!/bin/sh\nseq -f 'npm error line %.0f of many' 100000\nexit 1\n"
            )
            (folder / "bin/npm").chmod(0o755)
            continue
        found = shutil.which(name)
        assert found is not None
        (folder / "bin" / name).symlink_to(found)
    return subprocess.run(
        [folder / "deploy/setup/web.sh"],
        env={"PATH": str(folder / "bin")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


_ALWAYS = ["bash", "env", "dirname", "find", "sort", "xargs", "sha256sum", "cut", "cat", "sh", "mktemp"]


def test_without_npm_the_page_is_left_out_with_a_word_on_how_to_get_it(tmp_path: Path) -> None:
    done = _set_up(tmp_path, *_ALWAYS)
    assert done.returncode == 0
    assert "left out" in done.stderr
    assert "make web" in done.stderr


def test_a_build_that_fails_leaves_the_page_out_and_says_why_in_a_few_lines(tmp_path: Path) -> None:
    done = _set_up(tmp_path, *_ALWAYS, "npm", "mkdir", "timeout", "grep", "tail", "sed", "seq")
    assert done.returncode == 0
    assert "npm error line 1" in done.stderr
    assert "left out" in done.stderr
    assert len(done.stderr.splitlines()) < 10
