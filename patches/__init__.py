"""Adversarial patches: what they are, where they lie, and the attacks and surrogates that make them."""
