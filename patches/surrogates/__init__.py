"""Surrogates: differentiable models whose gradients make patches."""
