"""Which IP addresses belong to the public Internet, and which are a cloud's metadata service.

The lists are IANA's registries of special-purpose addresses (IPv4, IPv6), written out because the standard
library's `is_global` follows them late, with what is public by its number and local by its use.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_NOT_PUBLIC_V4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers; 100.100.100.200 is Alibaba Cloud's metadata service
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's wire server: public by its number, local in every Azure network
        "169.254.0.0/16",  # link-local; metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is Oracle Cloud's metadata service
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # multicast tunnels
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_PUBLIC_V6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: another address inside
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")
_METADATA: Final = tuple(
    IPv4Network(network)
    for network in ("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32")
)
_METADATA_V6: Final = (IPv6Network("fd00:ec2::/32"), IPv6Network("fe80::/10"), IPv6Network("fd20:ce::/32"))
# ISATAP: an IPv4 address in the second half of one of any prefix.
_ISATAP: Final = (bytes.fromhex("00005efe"), bytes.fromhex("02005efe"))


def is_public(address: str) -> bool:
    """Return whether an address belongs to the public Internet, and so does one that it has inside.

    Raises ValueError for what is no address.
    """
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        inner = _inside(parsed)
        if inner is not None and not _public_v4(inner):
            return False
        if parsed in _NAT64 or parsed.ipv4_mapped is not None:
            return True
        return parsed in _PUBLIC_V6 and not any(parsed in network for network in _NOT_PUBLIC_V6)
    return _public_v4(parsed)


def is_metadata(address: str) -> bool:
    """Return whether an address, or one that it has inside, is where clouds keep a machine's credentials.

    Raises ValueError for what is no address.
    """
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        if any(parsed in network for network in _METADATA_V6):
            return True
        inner = _inside(parsed)
        return inner is not None and any(inner in network for network in _METADATA)
    return any(parsed in network for network in _METADATA)


def _public_v4(address: IPv4Address) -> bool:
    return not any(address in network for network in _NOT_PUBLIC_V4)


def _inside(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that packets to this one end at, None when there is none."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    # The last 32 bits: NAT64, IPv4-compatible, ISATAP.
    if address in _NAT64 or address.packed[:12] == bytes(12) or address.packed[8:12] in _ISATAP:
        return IPv4Address(address.packed[-4:])
    return None
