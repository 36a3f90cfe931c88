"""Every ratio against the bare thing, in one table: `make bench`.

Each part is a program of its own that interleaves its arms, prints its table and exits with 1 past a gate;
this runs them one after another, so that they do not disturb each other, and writes build/bench.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "build" / "bench"
# Together under ten minutes on two quiet cores.
PARTS = {"edge": 60, "warm": 150, "turns": 240, "llm": 150, "commit": 120}


def run(part: str, seconds: int) -> int | None:
    """Run one part; its exit code, or None when it took too long."""
    command = [sys.executable, str(HERE / f"{part}.py"), "--json", str(OUT / f"{part}.json")]
    print(f"== {part}", flush=True)
    try:
        return subprocess.run(command, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"{part}: not done after {seconds} s")
        return None


def main() -> int:
    """Run all; 1 when one is past its gate or did not end."""
    OUT.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    codes = {part: run(part, seconds) for part, seconds in PARTS.items()}
    results = {}
    for part in PARTS:
        file = OUT / f"{part}.json"
        results[part] = json.loads(file.read_text()) if codes[part] is not None and file.exists() else None
    (OUT.parent / "bench.json").write_text(json.dumps(results, indent=2))
    print(f"== in {time.monotonic() - began:.0f} s; build/bench.json")
    for part, code in codes.items():
        print(f"{part:>10}  {'within its gates' if code == 0 else 'PAST A GATE, or failed'}")
    return 0 if all(code == 0 for code in codes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
