"""Limits and keepalive times that both ends of a connection must agree on."""

from __future__ import annotations

from typing import Final

MESSAGE_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of one message."""
METADATA_LIMIT: Final = 16 * 1024
"""Bytes of a call's metadata, names and values."""

# A peer that is frozen keeps its connections open. One that does not answer a ping within these loses them,
# and its calls end with UNAVAILABLE, within ten seconds.
_PING_MS: Final = 5_000
_PING_TIMEOUT_MS: Final = 5_000
# Pings from peers: the edge and our own channels send one every five seconds.
_PINGS_ALLOWED_MS: Final = 2_000

ChannelOptions = list[tuple[str, int | str]]


def server_options() -> ChannelOptions:
    """Return the options of a server."""
    return [
        # A little more than the limits, so that what is over them meets our typed answer before gRPC's own.
        # Far beyond, gRPC refuses by itself, without details and without reading it all.
        ("grpc.max_receive_message_length", 2 * MESSAGE_LIMIT),
        ("grpc.max_send_message_length", MESSAGE_LIMIT),
        ("grpc.max_metadata_size", 4 * METADATA_LIMIT),
        ("grpc.absolute_max_metadata_size", 4 * METADATA_LIMIT),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # Peers ping quiet connections, Envoy among them; by default that counts as abuse.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _PINGS_ALLOWED_MS),
        # A second server on the same port must fail, not share it silently.
        ("grpc.so_reuseport", 0),
    ]


def channel_options(service_config: str) -> ChannelOptions:
    """Return the options of a channel to one of our own services."""
    return [
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        ("grpc.max_send_message_length", MESSAGE_LIMIT),
        ("grpc.keepalive_time_ms", _PING_MS),
        ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # A restarted peer is found again within a second; gRPC's default waits up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.service_config", service_config),
        # Our services are reached directly, whatever proxy the environment names for the world outside.
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
