"""`python -m router`."""

from servicekit.starting import quick_imports

with quick_imports():
    from servicekit.serving import run_service

    from router.app import app
    from router.config import RouterConfig

if __name__ == "__main__":
    run_service("router", RouterConfig, app)
