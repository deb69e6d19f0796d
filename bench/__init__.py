"""The benchmarks: one file per figure."""
