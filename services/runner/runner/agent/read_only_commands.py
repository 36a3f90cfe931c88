"""Shell commands that change nothing, whatever their arguments are."""

from __future__ import annotations

import shlex
from typing import Final

# Programs none of whose options writes a file or runs another program.
_READERS: Final = frozenset(
    {
        "basename", "cat", "cmp", "cut", "df", "diff", "dirname", "du", "echo", "egrep", "false", "fgrep",
        "grep", "head", "id", "ls", "md5sum", "nl", "od", "pwd", "readlink", "realpath", "sha256sum", "stat",
        "tac", "tail", "tr", "true", "uname", "wc", "which", "whoami",
    }
)  # fmt: skip
_SEPARATORS: Final = frozenset({"|", "||", "&&", ";"})
# With these a command has substitutions, redirections, groups, comments, escapes or a second line.
_SPECIAL: Final = frozenset("$`<>(){}\\#!\n\r")
_COMMAND_BYTES: Final = 4096


def is_read_only(command: object) -> bool:
    """Whether a shell command certainly changes nothing. False for all that is not plainly so."""
    if not isinstance(command, str) or len(command) > _COMMAND_BYTES or _SPECIAL & set(command):
        return False
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:
        return False
    starts = True
    for word in words:
        if set(word) <= set("|&;"):
            if starts or word not in _SEPARATORS:
                return False
            starts = True
        elif starts:
            if word not in _READERS:
                return False
            starts = False
    return bool(words)
