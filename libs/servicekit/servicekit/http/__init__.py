"""HTTP endpoints: what a request must look like, how a body is read, and errors with a type."""
