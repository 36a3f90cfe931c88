"""What is configured of the issuers of JWTs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class IssuerSettings(BaseModel):
    """One OIDC issuer, or anything else that signs JWTs and publishes its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1)
    """The claim `iss`, exactly."""
    audience: str = Field(min_length=1)
    """The claim `aud` that tokens for this installation have."""
    jwks: str = ""
    """URL or file of its public keys. Default: the URL in its `/.well-known/openid-configuration`."""
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256", "EdDSA")
    """Signatures that are taken. None with a shared secret can be."""
    tenant: str = ""
    """The tenant of all its tokens. Default: what `tenant_claim` says."""
    tenant_claim: str = "tenant"
    account_claim: str = "account"
    """The account that a token is pinned to; a token without it may act in every account."""
    roles_claim: str = "roles"
    """Names of roles, as a list or separated by spaces."""
    scopes_claim: str = "scope"
    """Names of scopes, as a list or separated by spaces."""
    default_role: Literal["", "viewer", "member", "operator", "admin"] = ""
    """The role of tokens that name neither role nor scope of ours. Default: none, they are refused."""
