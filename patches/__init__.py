"""Adversarial patches: what they are, where they are placed, and the attacks and surrogates that craft them.

Part of patchbench.
"""
