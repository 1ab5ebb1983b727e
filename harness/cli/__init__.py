"""The command line: ``patchbench COMMAND``, one module for each group of commands."""
