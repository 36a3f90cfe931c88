"""AccountService."""

from __future__ import annotations

from typing import Any

from pointsman.session.v1 import account_service_pb2 as pb
from pointsman.session.v1 import account_service_pb2_grpc
from servicekit.context import account_of, current_passport, log_fields

from session import names
from session.caller import Caller
from session.sessions.accounts import Accounts


class AccountServicer(account_service_pb2_grpc.AccountServiceServicer):
    """Accounts and their limits."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def GetAccount(self, request: pb.GetAccountRequest, _context: Any) -> pb.GetAccountResponse:
        """Return one account."""
        account = _named(request.name, "name")
        return pb.GetAccountResponse(account=await self._accounts.get(_caller(), account))

    async def ListAccounts(self, request: pb.ListAccountsRequest, _context: Any) -> pb.ListAccountsResponse:
        """Return a page of accounts."""
        found, token = await self._accounts.page(_caller(), request.page_size, request.page_token)
        return pb.ListAccountsResponse(accounts=found, next_page_token=token)

    async def UpdateAccount(
        self, request: pb.UpdateAccountRequest, _context: Any
    ) -> pb.UpdateAccountResponse:
        """Set an account's limits."""
        account = _named(request.account.name, "account.name")
        limit = request.account.max_concurrent_turns
        changed = await self._accounts.update(_caller(), account, limit, request.update_mask.paths)
        return pb.UpdateAccountResponse(account=changed)


def _caller() -> Caller:
    return Caller.of(current_passport())


def _named(name: str, field: str) -> str:
    """Return the account that a resource name is of, and log what the call is about."""
    log_fields(resource=name)
    return account_of(names.account_named(name, field))
