"""Sandboxes: one protocol, and the implementations that keep it."""
