"""Runs: carry a plan out and keep every result."""
