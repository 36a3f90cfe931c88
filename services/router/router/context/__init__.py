"""What is gathered for a prompt before it runs: rows, pages, files, before any sandbox exists."""
