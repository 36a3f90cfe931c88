"""Turns until they run: accepted, ordered, claimed by one replica."""
