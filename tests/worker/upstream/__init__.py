"""Tests of `worker/engines/upstream`."""
