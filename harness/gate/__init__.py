"""The gate: is a run no worse than its baseline, and within limits?"""
