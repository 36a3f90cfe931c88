"""Run by alembic, on the connection that `upgrade.py` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # Several services may share a database; each counts its own versions.
    version_table=context.config.attributes["version_table"],
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
