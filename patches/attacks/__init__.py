"""Attacks, one a file; the file's name is the registry."""
