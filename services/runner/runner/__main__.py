"""`python -m runner`: the runner's process."""

from servicekit.starting import quick_imports

with quick_imports():
    from servicekit.serving import run_service

    from runner.app import app
    from runner.config import RunnerConfig

if __name__ == "__main__":
    run_service("runner", RunnerConfig, app)
