"""How much a tenant may ask for at once."""
