"""Tests of the command, the embedded servers and the tiny model."""
