"""How a service brings its database to the newest schema. Needs alembic, which such services list."""
