"""`python -m supervisor`: what `make run` runs."""

from supervisor.main import main

if __name__ == "__main__":
    main()
