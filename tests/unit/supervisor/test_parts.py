"""The supervisor's small parts, each by itself."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from pathlib import Path

import pytest
from servicekit.config import ConfigError
from servicekit.passport import PassportSigner, PassportVerifier
from supervisor.backoff import Backoff
from supervisor.data_dir import api_key, claimed
from supervisor.edge import Edge, render, split_address
from supervisor.log_file import Console, LogFile, copy_lines
from supervisor.ports import check_listen, free_ports
from supervisor.refusal import Refusal
from supervisor.welcome import welcome


class TestBackoff:
    def test_waits_grow_to_ten_seconds_and_then_it_gives_up(self):
        backoff = Backoff()
        waits = [backoff.died(0) for _ in range(9)]
        assert waits[-1] is None
        for number, wait in enumerate(waits[:-1]):
            longest = min(10, 0.1 * 2**number)
            assert wait is not None and longest / 2 <= wait <= longest

    def test_one_that_has_served_is_never_given_up(self):
        backoff = Backoff()
        backoff.died(served_seconds=0.5)
        waits = [backoff.died(0) for _ in range(50)]
        assert None not in waits
        assert 5 <= (waits[-1] or 0) <= 10

    def test_one_that_died_of_a_slow_start_does_not_wait_longer_for_it(self):
        backoff = Backoff()
        waits = [backoff.died(0, lived_seconds=6) for _ in range(8)]
        assert max(wait or 0 for wait in waits[:6]) <= 0.1
        assert (waits[-1] or 0) <= 4

    def test_one_that_had_been_well_starts_over(self):
        backoff = Backoff()
        for _ in range(50):
            wait = backoff.died(served_seconds=5)
            assert wait is not None and wait <= 0.1


class TestDataDir:
    def test_a_second_run_is_refused_by_name(self, tmp_path):
        with claimed(tmp_path / "data"), pytest.raises(Refusal, match=f"process {os.getpid()}"):
            claimed(tmp_path / "data").__enter__()
        with claimed(tmp_path / "data"):
            pass

    def test_secrets_are_for_their_owner(self, tmp_path):
        with claimed(tmp_path / "data") as data:
            key = api_key(data)
            assert api_key(data) == key
            files = [path for path in data.path.rglob("*") if path.suffix == ".pem" or path.name == "api-key"]
            assert len(files) == 6
            assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
            assert stat.S_IMODE(data.keys.stat().st_mode) == 0o700

    def test_empty_files_of_a_power_cut_are_made_anew(self, tmp_path):
        with claimed(tmp_path / "data") as data:
            api_key(data)
        for path in (data.path / "api-key", data.jwks, *data.keys.glob("*.pem")):
            path.write_bytes(b"")
        with claimed(tmp_path / "data") as data:
            assert len(api_key(data)) > 40
            assert len(json.loads(data.jwks.read_text())["keys"]) == 5
            assert PassportSigner.from_directory(data.keys, "router")

    @pytest.mark.parametrize("content", [b"two words\n", b"\0" * 46, b"short", b"pm_\xff\xfe_0123456789"])
    def test_an_api_key_that_is_none_is_refused_by_name(self, tmp_path, content):
        with claimed(tmp_path / "data") as data:
            (data.path / "api-key").write_bytes(content)
            with pytest.raises(Refusal, match=r"data/api-key does not hold an API key.*delete it"):
                api_key(data)

    @pytest.mark.parametrize("content", [b"\0" * 119, b"-----BEGIN PRIVATE KEY-----\n"])
    def test_a_key_that_is_none_is_refused_by_name(self, tmp_path, content):
        with claimed(tmp_path / "data") as data:
            (data.keys / "runner.pem").write_bytes(content)
        with pytest.raises(ConfigError, match=r"runner.pem: it is not an Ed25519 private key; delete it"):
            claimed(tmp_path / "data").__enter__()
        with pytest.raises(ConfigError, match=r"POINTSMAN_PASSPORT_KEY: .*runner.pem"):
            PassportSigner.from_directory(data.keys, "runner")
        data.jwks.write_bytes(content)
        with pytest.raises(ConfigError, match=r"POINTSMAN_PASSPORT_KEYS: .*jwks.json"):
            PassportVerifier.from_file(data.jwks)

    def test_a_place_that_cannot_be_written_is_refused(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(Refusal, match="POINTSMAN_DATA_DIR"):
            claimed(tmp_path / "file" / "data").__enter__()


class TestPorts:
    def test_free_ports_are_free_and_different(self):
        ports = free_ports(6)
        assert len(set(ports)) == 6
        for port in ports:
            check_listen("127.0.0.1", port)

    def test_a_busy_port_is_refused_with_another_one(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(Refusal, match=f"port {port} is in use.*PORT=.* make run"):
                check_listen("127.0.0.1", port)

    def test_an_address_of_somebody_else_is_refused(self):
        with pytest.raises(Refusal, match="POINTSMAN_HOST"):
            check_listen("192.0.2.1", 8080)


class TestLogs:
    def test_a_full_file_makes_way(self, tmp_path):
        log = LogFile(tmp_path / "x.log", max_bytes=1000)
        for number in range(500):
            log.write(f"line {number}".encode())
        log.close()
        files = sorted(path.name for path in tmp_path.iterdir())
        assert files == ["x.log", "x.log.1", "x.log.2"]
        assert all(path.stat().st_size <= 1100 for path in tmp_path.iterdir())
        assert log.last_lines[-1] == "line 499"

    def test_a_full_disk_loses_lines_and_nothing_else(self, tmp_path):
        log = LogFile(tmp_path / "x.log")
        log._file.close()
        with Path("/dev/full").open("ab", buffering=0) as full:
            log._file = full
            log.write(b"lost")
        log.write(b"kept")
        log.close()
        assert (tmp_path / "x.log").read_bytes() == b"kept\n"

    async def test_lines_are_kept_whole_and_troubles_shown(self, tmp_path):
        shown: list[str] = []
        reader = asyncio.StreamReader()
        log = LogFile(tmp_path / "x.log")
        copying = asyncio.create_task(copy_lines(reader, log, Console("router", log.path, show=shown.append)))
        trouble = json.dumps(
            {"level": "error", "event": "call", "code": "INTERNAL", "prompt": "secret"}
        ).encode()
        reader.feed_data(b'{"level":"info","event":"serving"}\n' + trouble[:10])
        reader.feed_data(trouble[10:] + b"\nplain text\n" + b"x" * 200_000)
        reader.feed_eof()
        await copying
        log.close()
        assert shown == ["router     error    call code=INTERNAL"]
        lines = (tmp_path / "x.log").read_bytes().splitlines()
        assert lines[1] == trouble
        assert all(len(line) <= 64 * 1024 for line in lines)

    def test_a_flood_of_troubles_is_counted(self, tmp_path):
        shown: list[str] = []
        now = [100.0]
        console = Console("router", tmp_path / "x.log", show=shown.append, clock=lambda: now[0])
        for _ in range(1000):
            console.look_at(b'{"level":"warning","event":"flood"}')
        assert len(shown) == 5
        now[0] += 11
        console.look_at(b'{"level":"warning","event":"later"}')
        assert "995 more" in shown[5]
        assert "later" in shown[6]


class TestEdge:
    @pytest.mark.parametrize("address", ["localhost", ":80", "host:", "host:http", "host:99999"])
    def test_what_is_no_address_is_refused(self, address):
        with pytest.raises(ValueError, match="host:port"):
            split_address(address)

    def test_values_are_json(self, tmp_path):
        edge = Edge("[::1]:1", "a:2", "b:3", "c:4", "d:5", tmp_path, tmp_path, ['"]'], 7)
        names = [
            "LISTEN_HOST",
            "ROUTER_PORT",
            "CORS_ORIGINS",
            "STATIC_FILES",
            "TRUSTED_PROXIES",
        ]
        template = "[" + ", ".join(f"${{{name}}}" for name in names) + "]"
        assert json.loads(render(template, edge)) == ["::1", 2, [{"exact": '"]'}], f"{tmp_path}/", 7]


def test_the_welcome_has_the_key_and_four_commands(tmp_path):
    text = welcome("127.0.0.1", 8080, "pm_key", tmp_path / "api-key", tmp_path)
    assert text.startswith("Ready on http://localhost:8080\n")
    for command in (
        "grpcurl -plaintext",
        "buf curl",
        "curl -s -X POST http://localhost:8080/query",
        "http://localhost:8080/",
    ):
        assert command in text
    assert text.count("pm_key") == 4
    with_tls = welcome("127.0.0.1", 8443, "pm_key", None, tmp_path, tls=True)
    assert with_tls.startswith("Ready on https://localhost:8443\n")
    assert "grpcurl -insecure" in with_tls
