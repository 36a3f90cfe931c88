"""The schema's versions, and how the ledger is brought to the newest one."""
