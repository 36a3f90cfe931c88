"""`python -m session`."""

from servicekit.serving import run_service

from session.app import app
from session.config import SessionConfig

run_service("session", SessionConfig, app)
