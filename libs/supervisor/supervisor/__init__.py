"""The supervisor behind `make run`: every process of an installation on one machine."""
