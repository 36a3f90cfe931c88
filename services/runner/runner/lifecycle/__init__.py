"""Sandboxes from their boot to their end."""
