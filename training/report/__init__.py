"""Reports of training runs, and the table of results."""
