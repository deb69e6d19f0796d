"""The inference worker: one resident engine, the jobs it claims, and their results."""
