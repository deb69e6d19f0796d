"""Engines that answer to a script."""
