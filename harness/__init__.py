"""Suites, plans, runs, records and reports: the craft side's own work.

Part of patchbench.
"""
