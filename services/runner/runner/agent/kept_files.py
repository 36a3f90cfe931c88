"""Files that the CLI keeps for the agent in its home, such as long outputs: they belong into the workspace.

The home is a tmpfs that goes with the process, and the agent was told paths in it ("saved to: …"). So these
folders of the home are links into KEPT, a folder of the workspace: there they survive a restart, count
against the quota, are in snapshots and forks, and can be read by the user. The links are made by the
sandbox, inside it, so whatever lies at KEPT, nothing outside the workspace is reached.

Seen with Claude Code 2.1.329: `projects/<cwd>/<session>/tool-results`. Its `plans` stay in the home: the
CLI asks before it writes a plan through a link, and a plan is in the conversation. Its `memory` folder is
left out on purpose: the CLI reads that as instructions, and a workspace must not configure the agent.
"""

from __future__ import annotations

from typing import Final

from runner.agent.seed import PROJECT
from runner.sandboxes.protocol import KEPT, WORKSPACE

# Earlier processes whose outputs are found again; each has a folder, named by its own id.
_PROCESSES: Final = 100


def linking(agent_id: str) -> str:
    """Return the shell commands that link an agent's home to KEPT. They never fail.

    `agent_id` is a UUID. When KEPT cannot be made, the files stay in the home and go with the process.
    """
    results = f"{WORKSPACE}/{KEPT}/tool-results"
    project = f"$CLAUDE_CONFIG_DIR/projects/{PROJECT}"
    return (
        f'if mkdir -p {results}/{agent_id} "$CLAUDE_CONFIG_DIR" 2>/dev/null; then n=0; '
        f'for d in {results}/{agent_id} {results}/*; do [ "$n" -lt {_PROCESSES} ] || break; n=$((n+1)); '
        f'p="{project}/${{d##*/}}"; mkdir -p "$p" && [ -e "$p/tool-results" ] || '
        f'ln -s "$d" "$p/tool-results"; done; fi 2>/dev/null; true'
    )
