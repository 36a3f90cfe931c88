"""SQL, and nothing else: every statement of the service, on the connection of a transaction.

Rows are locked in one order everywhere: an account, then sessions by id, then turns.
"""
