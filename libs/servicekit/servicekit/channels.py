"""Channels to our own services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc.aio

from servicekit.interceptors.forwarding import forwarding
from servicekit.limits import channel_options
from servicekit.metadata import CallMetadata, call_metadata, internal_metadata, served_metadata
from servicekit.passport import PassportSigner
from servicekit.retries import IDEMPOTENT, service_config

__all__ = ["CallMetadata", "call_metadata", "internal_metadata", "served_metadata", "service_channel"]


def service_channel(
    address: str,
    *,
    signer: PassportSigner | None,
    idempotent: Mapping[str, Sequence[str]] = IDEMPOTENT,
) -> grpc.aio.Channel:
    """Return a channel to the service at `address`. It connects on the first call; the caller closes it.

    Methods in `idempotent` are tried again when the service is unavailable, no others. With a signer, a call
    with one answer that brings no passport and is made while another call is served gets `served_metadata`.
    """
    return grpc.aio.insecure_channel(
        address,
        options=channel_options(service_config(idempotent)),
        interceptors=[] if signer is None else forwarding(signer),
    )
