"""Shared parts of the analyses: inputs, selected cells, estimates, labels, and readings of inner layers."""
