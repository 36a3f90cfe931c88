"""The schema's versions, and how the router brings its database to the newest one."""
