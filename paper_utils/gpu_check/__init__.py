"""Checks and measures every method on a GPU: ``make gpu-check``."""
