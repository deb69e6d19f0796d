"""Tests of what lies in `deploy/`."""
