"""Why nothing runs."""


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """A reason that the person at the terminal can do something about, and what; one line or a few."""
