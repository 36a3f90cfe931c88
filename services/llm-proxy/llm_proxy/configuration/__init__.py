"""How the models' configuration is read."""
