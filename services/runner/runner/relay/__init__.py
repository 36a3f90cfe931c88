"""The way from a sandbox to llm-proxy, and what is shown there."""
