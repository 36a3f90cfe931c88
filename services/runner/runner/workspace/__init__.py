"""Workspaces: a session's files on the runner's disk, reached through one guarded door."""
