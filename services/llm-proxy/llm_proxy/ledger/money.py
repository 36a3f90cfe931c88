"""Money as whole numbers: sums of fractions of a cent must come out exactly."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

Pico = int
"""10⁻¹² US dollars: a cheap token costs thousands of them, and a database's integer holds 9 million."""

_PER_DOLLAR: Final = 10**12

# A thousand dollars: far above any call, and thousands of such calls fit into a database's integer.
_MOST_OF_A_CALL: Final = 1000 * _PER_DOLLAR


def pico(dollars: Decimal) -> Pico:
    """Return an amount of dollars as a whole number; ValueError unless it is finite."""
    if not dollars.is_finite():
        raise ValueError("not an amount")
    return int((dollars * _PER_DOLLAR).to_integral_value(ROUND_HALF_EVEN))


def of_a_call(amount: Pico) -> Pico:
    """Return what a call costs or may cost, at most what can be written down, whatever a provider counts."""
    return min(amount, _MOST_OF_A_CALL)


def dollars(amount: Pico) -> float:
    """Return an amount in US dollars, for people and for messages."""
    return amount / _PER_DOLLAR
