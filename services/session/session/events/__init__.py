"""The event log and those who watch it."""
