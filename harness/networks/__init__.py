"""Victims: architectures, weights and training."""
