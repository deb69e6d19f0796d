"""What must hold when things are killed: real processes, real signals, and a journal that knows nothing of ours."""
