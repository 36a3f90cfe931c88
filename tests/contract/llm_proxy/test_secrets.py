"""A provider's key is where it is used, and nowhere else."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp
import pytest
from pointsman.system.v1 import diagnostics_service_pb2 as diagnostics_pb
from pointsman.system.v1 import diagnostics_service_pb2_grpc as diagnostics_rpc
from servicekit.config import ConfigError
from servicekit.passport import PASSPORT_HEADER, Passport
from servicekit.testing import free_port, wait_until
from support.files import contents
from support.llm_proxy_house import CANARY, ProxyHouse, proxy_house
from support.scripted_openai import anthropic_text, failing, openai_text, scripted_upstream

MODELS = """
model_list:
  - model_name: anthropic/*
    litellm_params: {model: anthropic/*, api_base: os.environ/BASE, api_key: os.environ/MY_OWN_NAME}
  - model_name: groq/*
    litellm_params: {model: groq/*, api_base: os.environ/BASE_V1, api_key: os.environ/MY_OWN_NAME}
router_settings: {num_retries: 0, timeout: 1}
"""


@pytest.mark.parametrize("model", ["anthropic/claude-sonnet-4-5", "groq/openai/gpt-oss-20b"])
async def test_a_canary_key_shows_up_nowhere(
    tmp_path: Path, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    # The provider itself repeats the key in its errors, as some do.
    good = anthropic_text("Hi") if model.startswith("anthropic") else openai_text("Hi")
    script = [failing(401, f"Incorrect API key provided: {CANARY}"), failing(500, f"{CANARY} failed"), good]
    metrics = f"127.0.0.1:{free_port()}"
    async with scripted_upstream(script) as provider:
        environ = {"BASE": provider.url, "BASE_V1": f"{provider.url}/v1", "MY_OWN_NAME": CANARY}
        async with proxy_house(tmp_path, environ, MODELS) as house:
            token = await house.token()
            replies = [await house.ask(token, model, stream=True) for _ in range(3)]
            debug = await diagnostics_rpc.DiagnosticsServiceStub(house.running.channel).GetDiagnostics(
                diagnostics_pb.GetDiagnosticsRequest(), metadata=house.internal(), timeout=60
            )
            usage = await house.usage(1, 2, 3, 4, 5, 6)
    # It went to the provider ...
    assert all(CANARY in str(asked.headers) for asked in provider.asked)
    assert replies[-1].said() == "Hi"
    # ... and nowhere else.
    seen = [reply.text + str(reply.headers) for reply in replies]
    seen += [str(debug), str(usage), "".join(capfd.readouterr()), metrics]
    seen += [content.decode(errors="replace") for content in contents(tmp_path / "data").values()]
    assert all(CANARY not in text for text in seen)
    assert "[redacted]" in replies[0].text


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"ANTHROPIC_API_KEY": "canary-0123456789"}, "ANTHROPIC_API_KEY: does not begin with sk-ant-"),
        (
            {"CLAUDE_CODE_OAUTH_TOKEN": "canary-0123456789"},
            "CLAUDE_CODE_OAUTH_TOKEN: does not begin with sk-ant-",
        ),
        ({"MODEL": "acme/none"}, "MODEL: There is no model acme/none. There are: "),
        ({"MODEL": "groq/*"}, "MODEL: "),
        (
            {"POINTSMAN_LLM_CONFIG": "/does/not/exist.yaml"},
            "POINTSMAN_LLM_CONFIG: cannot read /does/not/exist.yaml",
        ),
    ],
)
async def test_a_bad_variable_is_one_line_at_the_start(
    tmp_path: Path, environ: dict[str, str], line: str
) -> None:
    async with proxy_house(tmp_path) as house:
        needed = process_environ(house, tmp_path / "own")
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "llm_proxy"],
        env=needed | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(line)
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "canary" not in ended.stderr


def process_environ(house: ProxyHouse, data_dir: Path) -> dict[str, str]:
    """The environment of an llm-proxy of its own, with this house's keys."""
    return {
        "PATH": os.environ["PATH"],
        "POINTSMAN_PASSPORT_KEYS": str(house.keys.jwks),
        "POINTSMAN_PASSPORT_KEY": str(house.keys.directory),
        "POINTSMAN_DATA_DIR": str(data_dir),
        "POINTSMAN_LLM_PROXY_ADDRESS": "127.0.0.1:0",
        "POINTSMAN_LLM_PROXY_HTTP_ADDRESS": "127.0.0.1:0",
    }


async def test_a_busy_http_port_is_said(tmp_path: Path) -> None:
    async with proxy_house(tmp_path / "one") as house:
        port = house.url.rpartition(":")[2]
        with pytest.raises(ConfigError, match=f"POINTSMAN_LLM_PROXY_HTTP_ADDRESS.*{port}"):
            async with proxy_house(tmp_path / "two", http_address=f"127.0.0.1:{port}"):
                pass


async def test_a_process_that_crashes_in_the_middle_of_a_call_shows_no_key(tmp_path: Path) -> None:
    async with (
        scripted_upstream([anthropic_text("Hi", end="stall")]) as provider,
        proxy_house(tmp_path) as house,
    ):
        http = f"127.0.0.1:{free_port()}"
        environ = process_environ(house, tmp_path / "own") | {
            "POINTSMAN_LLM_PROXY_HTTP_ADDRESS": http,
            "ANTHROPIC_API_KEY": CANARY,
            "ANTHROPIC_API_BASE": provider.url,
            "POINTSMAN_LOG_LEVEL": "debug",
            # Prints the stack of every thread when the process aborts.
            "PYTHONFAULTHANDLER": "1",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "llm_proxy", env=environ, stderr=PIPE, stdout=PIPE
        )
        passport = house.keys.signer("router").sign(Passport("acme", None, "user", frozenset({"turns.run"})))
        calling = asyncio.create_task(call_until_served(house, f"http://{http}", passport))
        try:
            await wait_until(lambda: bool(provider.asked), timeout=60)
            process.send_signal(signal.SIGABRT)
            out, errors = await asyncio.wait_for(process.communicate(), 60)
        finally:
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert provider.asked[0].headers["x-api-key"] == CANARY
    assert process.returncode == -signal.SIGABRT
    assert b"Fatal Python error: Aborted" in errors
    left = contents(tmp_path / "own").values()
    assert all(CANARY.encode() not in text for text in (out, errors, *left))


async def call_until_served(house: ProxyHouse, url: str, passport: str) -> None:
    body = {
        "model": "anthropic/claude-sonnet-4-5",
        "max_tokens": 9,
        "stream": True,
        "messages": [{"role": "user", "content": "x"}],
    }
    while True:
        try:
            async with house.session.post(
                f"{url}/v1/messages", json=body, headers={PASSPORT_HEADER: passport}
            ) as response:
                await response.read()
        except aiohttp.ClientError:
            await asyncio.sleep(0.1)
