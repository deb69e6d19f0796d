"""What a job is and everything that may happen to it; no HTTP, no engine."""
