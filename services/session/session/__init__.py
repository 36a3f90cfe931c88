"""The durable home of sessions: queue, event log, dispatch, recovery."""
