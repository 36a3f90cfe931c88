"""The agent: Claude Code behind its streams, and what it says, as events."""
