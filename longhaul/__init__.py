"""The command `longhaul` and what it needs to run every part on one machine."""
