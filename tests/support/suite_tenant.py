"""A tenant of a running suite, over plain HTTP: its key, its turns, its calls, and all that it was told."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections import defaultdict
from typing import Any

import httpx
from support.suite import Suite


class Tenant:
    """One tenant. `said` is every byte that it got in answers; `took` the seconds of its calls by kind."""

    def __init__(self, suite: Suite, name: str) -> None:
        self.name = name
        self.suite = suite
        self.said: list[str] = []
        self.took: defaultdict[str, list[float]] = defaultdict(list)
        self.http = httpx.AsyncClient(base_url=suite.url, trust_env=False, timeout=120)
        self._owner = suite.key

    async def open(self) -> None:
        """Make its key."""
        key = {"title": self.name, "role": "KEY_ROLE_MEMBER", "tenant": self.name, "account": ""}
        answer = await self.http.post(
            "/v1/keys", json={"key": key}, headers={"authorization": f"Bearer {self._owner}"}
        )
        answer.raise_for_status()
        self.http.headers["authorization"] = f"Bearer {answer.json()['secret']}"

    async def session(self) -> str:
        """Make a session of an account of its own."""
        answer = await self.http.post("/v1/sessions", json={"session": {}, "account": uuid.uuid4().hex})
        answer.raise_for_status()
        return str(answer.json()["session"]["name"])

    async def put(self, session: str, path: str, data: str) -> None:
        """Write a file."""
        body = {"data": base64.b64encode(data.encode()).decode()}
        (await self.http.put(f"/v1/{session}/files/{path}", json=body)).raise_for_status()

    async def turn(self, session: str, prompt: str) -> dict[str, Any]:
        """Run a turn of the agent; return how it finished."""
        body = {
            "session": session,
            "prompt": prompt,
            "model": "demo/offline",
            "route": "TURN_ROUTE_AGENT",
        }
        began, finished = time.monotonic(), dict[str, Any]()
        async with self.http.stream("POST", "/v1/turns:run", json=body) as answer:
            async for line in answer.aiter_lines():
                self.said.append(line)
                if line.strip():
                    finished = json.loads(line).get("event", {}).get("turnFinished", finished)
        self.took["turn"].append(time.monotonic() - began)
        return finished

    async def look(self, kind: str, path: str) -> None:
        """Make a call that reads."""
        began = time.monotonic()
        answer = await self.http.get(path)
        self.took[kind].append(time.monotonic() - began)
        assert answer.status_code == 200, answer.text
        self.said.append(answer.text)
