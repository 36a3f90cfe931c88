"""The ledger: what every call cost, and what may still be spent."""
