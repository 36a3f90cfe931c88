"""The way from a sandbox to the world, where an operator opens one."""
