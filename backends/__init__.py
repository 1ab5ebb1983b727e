"""Run artifacts: the device side, the hosts that start it, and the runtimes behind it.

Part of patchbench.
"""
