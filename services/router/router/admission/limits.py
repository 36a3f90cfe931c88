"""What is configured of limits. None is no limit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator


class AccountLimits(BaseModel):
    """Limits of each account."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    turns_per_minute: PositiveInt | None = None
    concurrent_turns: PositiveInt | None = None
    """Turns that are waited for or followed at once."""


class TenantLimits(AccountLimits):
    """Limits of a tenant, all its accounts together, and of each of its accounts."""

    requests_per_minute: PositiveInt | None = None
    """Calls of any kind, by this tenant's credentials."""
    account: AccountLimits = AccountLimits()


class LimitSettings(BaseModel):
    """The section `limits`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrent_turns: PositiveInt = 1000
    """Turns of all tenants that this router follows at once. Beyond it, only tenants that have less than
    their equal share get more."""
    default: TenantLimits = TenantLimits()
    """Limits of each tenant that is not named below."""
    tenants: Mapping[str, TenantLimits] = Field(default_factory=dict)

    @field_validator("tenants", mode="after")
    @classmethod
    def _frozen(cls, value: Any) -> Mapping[str, TenantLimits]:
        return MappingProxyType(dict(value))

    def of(self, tenant: str) -> TenantLimits:
        """Return the limits of a tenant."""
        return self.tenants.get(tenant, self.default)
