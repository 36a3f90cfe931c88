"""The schema's versions, and how a service brings its database to the newest one."""
