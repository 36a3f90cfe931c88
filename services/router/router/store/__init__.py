"""What the router keeps: API keys and the audit log."""
