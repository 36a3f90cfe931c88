"""Page tokens: for the listing that gave them out, and for nothing else that can be made up."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servicekit.errors import Failure
from servicekit.paging import Listing


def forged(listing: Listing, *rest: Any) -> str:
    """A token that knows the listing's mark, which is no secret."""
    mark, *_ = json.loads(base64.urlsafe_b64decode(listing.token(1)))
    return base64.urlsafe_b64encode(json.dumps([mark, *rest]).encode()).decode()


def test_a_page_token_serves_its_own_listing_only() -> None:
    listing = Listing("turns", "acme", "s")
    token = listing.token(7, "x")
    assert listing.key(token) == (7, "x")
    assert listing.key("") is None
    with pytest.raises(Failure, match="PAGE_TOKEN_INVALID"):
        Listing("turns", "other", "s").key(token)


@given(st.text(max_size=60))
def test_no_text_makes_a_page_token_by_itself(text: str) -> None:
    if text:
        with pytest.raises(Failure, match="PAGE_TOKEN_INVALID"):
            Listing("turns").key(text)


@pytest.mark.parametrize(
    "rest",
    [
        (2**63, ""),
        (-(2**63), ""),
        (10**400, ""),
        (1.5, ""),
        (True, ""),
        (1, "a\0b"),
        (1, "\ud800"),
        (1, 2),
        (1,),
        (1, "", 3),
        ([], ""),
    ],
    ids=repr,
)
def test_what_no_database_takes_is_no_key(rest: tuple[Any, ...]) -> None:
    listing = Listing("turns")
    assert listing.key(forged(listing, 1, "")) == (1, "")
    with pytest.raises(Failure, match="PAGE_TOKEN_INVALID"):
        listing.key(forged(listing, *rest))


@pytest.mark.parametrize("raw", [b"[" * 100_000, b"1" * 5000, b"\xff\xfe", b"{}", b"null"], ids=len)
def test_no_depth_and_no_length_is_an_error_of_ours(raw: bytes) -> None:
    with pytest.raises(Failure, match="PAGE_TOKEN_INVALID"):
        Listing("turns").key(base64.urlsafe_b64encode(raw).decode())
