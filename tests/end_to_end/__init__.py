"""The whole, on a real engine."""
