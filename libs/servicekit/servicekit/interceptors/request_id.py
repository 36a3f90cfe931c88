"""The id that ties a call's log lines, answers and downstream calls together."""

from __future__ import annotations

import re
import uuid
from typing import Final

from servicekit.interceptors.incoming import Incoming
from servicekit.passport import REQUEST_ID_HEADER

# Anything else could forge log lines or fill them.
_SANE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def request_id(incoming: Incoming) -> str:
    """Return the caller's request id when it sent exactly one that is sane, else a new one."""
    sent = incoming.values(REQUEST_ID_HEADER)
    if len(sent) == 1 and _SANE.fullmatch(sent[0]):
        return sent[0]
    return str(uuid.uuid4())
