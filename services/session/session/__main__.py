"""`python -m session`."""

from servicekit.starting import quick_imports

with quick_imports():
    from servicekit.serving import run_service

    from session.app import app
    from session.config import SessionConfig

if __name__ == "__main__":
    run_service("session", SessionConfig, app)
