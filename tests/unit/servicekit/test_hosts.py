"""Which hosts an endpoint answers for."""

import pytest
from servicekit.errors import Failure
from servicekit.http.hosts import AllowedHosts


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:80", "a.localhost", "127.0.0.1", "10.1.2.3:9001", "[::1]:80", "[fe80::1]",
     "session",
     "session:9002", "session.pointsman.svc", "session.pointsman.svc.cluster.local.:80"],
)  # fmt: skip
def test_addresses_and_private_names_are_allowed(host: str) -> None:
    AllowedHosts().check(host)


@pytest.mark.parametrize(
    "host",
    ["", ":80", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "evil.example\x00",
     "a@b",
     "local host", "[::1", "::1", "évil", "127.1.evil.example", "xsvc.example", "a" * 300,
     "localhost:99999999",
     "evil.example,localhost", "http://localhost", "localhost/"],
)  # fmt: skip
def test_every_other_name_is_refused(host: str) -> None:
    with pytest.raises(Failure, match="HOST_NOT_ALLOWED"):
        AllowedHosts().check(host)


def test_configured_names_are_allowed_in_any_case() -> None:
    hosts = AllowedHosts.parse("metrics.example.com, other.example,*.example.org")
    hosts.check("Metrics.Example.com:443")
    hosts.check("other.example")
    hosts.check("a.b.example.org:1")
    with pytest.raises(Failure):
        hosts.check("sub.metrics.example.com")
