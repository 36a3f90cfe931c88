"""Turns: each run once, followed by whoever asks."""
