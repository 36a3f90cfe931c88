"""The router: who is asking, may they, and does it need an agent at all.

`identity/` says who a caller is, `servicers/` are the gRPC doors, `turns.py` and `following.py` speak to the
session service. Beside them belong `context/` (what is gathered before a prompt runs), `triage/` (whether it
needs an agent) and `admission/` (how much a tenant may ask for at once).
"""
