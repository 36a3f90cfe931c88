"""Anthropic's Messages API: requests, answers, errors, as bytes and as data."""
