"""The HTTP API: authenticates, admits, writes jobs down and answers."""
