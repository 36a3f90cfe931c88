"""A page by HTTP GET."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote, urlsplit

import httpx
from pydantic import Field, SecretStr, field_validator
from servicekit.addresses import is_metadata

from router.context.provider import Occasion, ProviderSettings, cut, unavailable


class HttpSettings(ProviderSettings):
    """A provider of kind `http`."""

    kind: Literal["http"]
    url: str
    """`http://` or `https://`; `{tenant}`, `{account}`, `{session}` and `{prompt}` become percent-encoded
    parts of its path or query, never of its host."""
    headers: Mapping[str, SecretStr] = Field(default_factory=dict)

    @field_validator("url")
    @classmethod
    def _host_is_fixed(cls, url: str) -> str:
        scheme, separator, rest = url.partition("://")
        if scheme not in ("http", "https") or not separator or "{" in rest.split("/")[0].split("?")[0]:
            raise ValueError("must begin with http:// or https:// and a host without placeholders")
        if _is_metadata(urlsplit(url).hostname or ""):
            raise ValueError("must not be a cloud's metadata service")
        return url


class HttpProvider:
    """Gets the page. Redirects are not followed: they could lead anywhere inside."""

    def __init__(self, settings: HttpSettings) -> None:
        self.settings = settings
        headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        # A small page that is compressed can become a large one in one step.
        headers |= {"accept-encoding": "identity"}
        self._http = httpx.AsyncClient(
            headers=headers, timeout=settings.deadline_seconds, follow_redirects=False
        )

    async def gather(self, occasion: Occasion) -> str:
        """Return the body, as text."""
        url = self.settings.url
        for name in ("tenant", "account", "session", "prompt"):
            url = url.replace(f"{{{name}}}", quote(getattr(occasion, name), safe=""))
        body = bytearray()
        try:
            async with self._http.stream("GET", url) as response:
                self._check_peer(response)
                if not response.is_success:
                    raise unavailable(self.settings.name, f"it was answered with {response.status_code}")
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise unavailable(self.settings.name, "its page is compressed, which was not asked for")
                async for piece in response.aiter_raw():
                    body += piece
                    if len(body) > self.settings.max_bytes:
                        # The rest is not even received.
                        break
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise unavailable(self.settings.name, "the page cannot be reached") from error
        return cut(body.decode(errors="replace"), self.settings.max_bytes)

    def _check_peer(self, response: httpx.Response) -> None:
        """Raise unless what was connected to may be read, whatever its name said when it was looked up."""
        peer = response.extensions["network_stream"].get_extra_info("server_addr")
        if _is_metadata(str(peer[0]) if peer else ""):
            raise unavailable(self.settings.name, "its host is a cloud's metadata service")

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _is_metadata(host: str) -> bool:
    try:
        return is_metadata(host)
    except ValueError:
        # A name: what it stands for is seen when it is connected to.
        return False
