"""Which deployment of a model a call goes to, and what happens when it fails."""
