"""Running turns: what an owner does between the claim and the end."""
