"""The HTTP face, for agents."""
