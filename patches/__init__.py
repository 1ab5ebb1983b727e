"""Patches: where they lie, what makes them, against which surrogate."""
