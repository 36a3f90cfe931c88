"""Does a prompt need an agent at all: rules first, then, where configured, a small model."""
