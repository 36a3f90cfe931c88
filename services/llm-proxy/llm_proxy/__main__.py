"""`python -m llm_proxy`: serve until SIGTERM."""

import os
from functools import partial

from servicekit.starting import quick_imports

with quick_imports():
    from servicekit.serving import run_service

    from llm_proxy.app import app
    from llm_proxy.config import Config

if __name__ == "__main__":
    run_service("llm-proxy", Config, partial(app, environ=dict(os.environ)))
