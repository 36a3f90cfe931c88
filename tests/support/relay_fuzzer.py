"""Attacks the relay of the sandbox that it runs in, at random. Standard library only: it is copied into one.

    python3 -I relay_fuzzer.py SEED SECONDS CANARY

Everything that it sends holds CANARY. The last line that it prints is JSON: how many requests were sent, the
statuses of the answers, and every answer that holds another canary, a session token, or an untyped error.
"""

import collections
import gzip
import json
import random
import re
import socket
import sys
import threading
import time
import zlib

SOCKET = "/run/agent/llm.sock"
THREADS = 8
ENCODINGS = (b"gzip", b"deflate", b"br", b"zstd", b"GZIP", b"identity", b"identity, gzip", b"x")
BOMB = gzip.compress(b" " * 30_000_000, 1)
ALIEN = re.compile(rb"canary-[0-9a-f]{16}|pst_[A-Za-z0-9_-]{16,}")
STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) [^\r\n]*\r\n(.*?)\r\n\r\n", re.DOTALL)


class Fuzzer:
    """One thread's attack. The same seed sends the same bytes."""

    def __init__(self, seed: int, canary: str) -> None:
        self.random = random.Random(seed)
        self.canary = canary.encode()
        self.sent = 0
        self.statuses: collections.Counter[str] = collections.Counter()
        self.findings: list[str] = []

    def body(self) -> bytes:
        pick = self.random
        text = self.canary.decode() * pick.choice((1, 1, 1, 200, 30_000))
        message = {"model": "demo/offline", "max_tokens": 5, "messages": [{"role": "user", "content": text}]}
        plain = json.dumps({**message, "stream": pick.random() < 0.3}).encode()
        smuggled = (
            b"POST /v1/messages HTTP/1.1\r\nhost: llm-proxy\r\nauthorization: Bearer pst_"
            + self.canary
            + b"\r\n"
            b"content-length: %d\r\n\r\n" % len(plain) + plain
        )
        raw = zlib.compressobj(wbits=-15)
        bodies = (
            plain, plain, plain, plain[:-7], b"", b"{" * 5_000, plain + smuggled, smuggled, BOMB,
            gzip.compress(plain, 1), zlib.compress(plain, 1), raw.compress(plain) + raw.flush(),
            pick.randbytes(pick.randrange(3_000)),
        )  # fmt: skip
        return pick.choice(bodies)

    def valid(self) -> bytes:
        text = f"Say {self.canary.decode()}"
        message = {"model": "demo/offline", "max_tokens": 50, "messages": [{"role": "user", "content": text}]}
        body = json.dumps(message).encode()
        return b"POST /v1/messages HTTP/1.1\r\nHost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    def chunked(self, body: bytes) -> bytes:
        pick = self.random
        out = []
        while body:
            size = pick.randrange(1, 70_000)
            part, body = body[:size], body[size:]
            length = pick.choice((b"%x", b"%x", b"%X", b"0%x", b"%x;a=b", b" %x")) % len(part)
            out += [length, pick.choice((b"\r\n", b"\r\n", b"\r\n", b"\n")), part, b"\r\n"]
        trailers = pick.choice(
            (b"", b"", b"authorization: " + self.canary + b"\r\n", b"content-length: 5\r\n")
        )
        return b"".join(out) + b"0\r\n" + trailers + pick.choice((b"\r\n", b"\r\n", b""))

    def request(self) -> bytes:
        pick = self.random
        if pick.random() < 0.25:
            return self.valid()
        method, target = pick.choice(
            (
                (b"POST", b"/v1/messages"), (b"POST", b"/v1/messages"), (b"POST", b"/v1/messages?beta=true"),
                (b"POST", b"/v1/messages/count_tokens"), (b"GET", b"/v1/models"), (b"HEAD", b"/"),
                (b"POST", b"http://llm-proxy/v1/messages"), (b"CONNECT", b"llm-proxy:7105"),
                (b"POST", b"/v1/../v1/messages"), (b"PUT", b"/v1/messages"), (b"get", b"/v1/models"),
            )
        )  # fmt: skip
        body = self.body()
        lines = [b"Host: x", b"x-note: " + self.canary, b"authorization: Bearer pst_" + self.canary]
        if pick.random() < 0.4:
            name = pick.choice((b"content-encoding", b"Content-Encoding", b"CONTENT-ENCODING"))
            value = pick.choice(
                (b"gzip", b"deflate", b"br", b"zstd", b"GZIP", b"identity", b"identity, gzip", b"x")
            )
            lines.append(name + b": " + value)
        length = len(body) + pick.choice((0, 0, 0, 0, 0, -3, 5, 40_000))
        sized = b"content-length: %d" % max(0, length)
        framing = pick.choice(
            (
                [sized], [sized], [sized], [b"transfer-encoding: chunked"], [b"transfer-encoding: chunked"],
                [b"transfer-encoding: gzip, chunked"], [b"transfer-encoding: identity", sized],
                [sized, sized],
                [sized, b"content-length: 7"], [b"transfer-encoding: chunked", sized],
                [b"Transfer-Encoding : chunked"], [b"content-length: +9"], [],
            )
        )  # fmt: skip
        lines += framing
        if any(b"chunked" in line for line in framing):
            body = self.chunked(body)
        for line, chance in (
            (b"expect: 100-continue", 0.05), (b"connection: close", 0.1), (b"upgrade: websocket", 0.03),
            (b"anthropic-beta: \xff\xfe" + self.canary, 0.03), (b"x: " + b"y" * 40_000, 0.03),
            (b" folded", 0.03),
        ):  # fmt: skip
            if pick.random() < chance:
                lines.append(line)
        end = pick.choice((b"\r\n",) * 12 + (b"\n", b"\r"))
        return end.join([method + b" " + target + b" HTTP/1.1", *lines]) + end + end + body

    def attack(self) -> None:
        """Open a connection, send some requests in some way, and look at everything that comes back."""
        pick = self.random
        requests = [self.request() for _ in range(pick.choice((1, 1, 1, 2, 5)))]
        data = b"".join(requests)
        if pick.random() < 0.15:
            data = data[: pick.randrange(len(data))]
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(pick.choice((0.2, 0.5, 2.0)))
            received = b""
            try:
                connection.connect(SOCKET)
                self.sent += len(requests)
                self._deliver(connection, data)
                while piece := connection.recv(65536):
                    received += piece
            except OSError:
                # Closed on us, or silent: what has come so far counts.
                pass
        self._look(received)

    def _deliver(self, connection: socket.socket, data: bytes) -> None:
        pick = self.random
        how = pick.random()
        if how < 0.6:
            connection.sendall(data)
        elif how < 0.8:
            for at in range(0, len(data), 1 + len(data) // 5):
                connection.sendall(data[at : at + 1 + len(data) // 5])
                time.sleep(pick.random() * 0.05)
        elif how < 0.9:
            connection.sendall(data[:-1])
            time.sleep(pick.random())
            connection.sendall(data[-1:])
        else:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR if how < 0.95 else socket.SHUT_RDWR)

    def _look(self, received: bytes) -> None:
        for found in ALIEN.findall(received):
            if found not in (self.canary, b"pst_" + self.canary):
                self.findings.append("foreign: " + repr(received[:400]))
        for status, headers in STATUS.findall(received):
            self.statuses[status.decode()] += 1
            if status[:1] in b"45" and b"application/json" not in headers.lower():
                self.findings.append("untyped: " + repr(received[:400]))


def main() -> None:
    seed, seconds, canary = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    until = time.monotonic() + seconds
    fuzzers = [Fuzzer(seed * THREADS + number, canary) for number in range(THREADS)]

    def run(fuzzer: Fuzzer) -> None:
        while time.monotonic() < until:
            fuzzer.attack()

    threads = [threading.Thread(target=run, args=(fuzzer,)) for fuzzer in fuzzers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses: collections.Counter[str] = collections.Counter()
    for fuzzer in fuzzers:
        statuses += fuzzer.statuses
    findings = [finding for fuzzer in fuzzers for finding in fuzzer.findings]
    print(json.dumps({"sent": sum(f.sent for f in fuzzers), "statuses": statuses, "findings": findings[:5]}))


if __name__ == "__main__":
    main()
