"""The database: its schema, its transactions, and the statements on it."""
