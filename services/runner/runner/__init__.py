"""The runner: sandboxes of one machine, and the turns in them."""
