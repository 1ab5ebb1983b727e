"""Imported before all others: an error where one of patchbench's packages is another distribution's."""

from patchbench_packages import foreign

if fault := foreign():
    raise ImportError(fault)
