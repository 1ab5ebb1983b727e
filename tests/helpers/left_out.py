"""A pytest plugin: which tests a machine left out and why, and a second run of just those.

``--write-left-out FILE`` writes what `absent` skipped. ``--only-left-out FILE`` runs the tests in it that lacked what
PATCHBENCH_REQUIRE names, and fails if one of them no longer exists or is skipped again.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from helpers.required import LEFT_OUT, REQUIRED


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tests that a machine leaves out")
    group.addoption("--write-left-out", metavar="FILE", help="write the tests left out, and why")
    group.addoption("--only-left-out", metavar="FILE", help="run only these, as far as required")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # a process of xdist reports to the one that started it
        config.pluginmanager.register(Ledger(config.option.write_left_out, wanted(config)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.only_left_out:
        names = wanted(config) or set()
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in names])
        items[:] = [item for item in items if item.nodeid in names]


def wanted(config: pytest.Config) -> set[str] | None:
    """Return the tests to run, or None for all."""
    if not config.option.only_left_out:
        return None
    left_out: dict[str, str] = json.loads(Path(config.option.only_left_out).read_text())["left_out"]
    return {name for name, why in left_out.items() if need(why) in REQUIRED}


def need(why: str) -> str:
    """Return what was absent, of the words of `absent`."""
    return why.partition(":")[0]


class Ledger:
    """Counts tests, and those left out, by the reports of one run."""

    def __init__(self, file: str | None, wanted: set[str] | None) -> None:
        self.file = Path(file) if file else None
        self.wanted = wanted
        self.ran: set[str] = set()
        self.skipped: dict[str, str] = {}  # and why

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.ran.add(report.nodeid)
        if report.skipped and isinstance(report.longrepr, tuple):
            self.skipped[report.nodeid] = report.longrepr[2].removeprefix("Skipped: ")

    def left_out(self) -> dict[str, str]:
        """Return the tests that `absent` skipped, and why."""
        found = {name: why for name, why in sorted(self.skipped.items()) if why.startswith(LEFT_OUT)}
        return {name: why.removeprefix(LEFT_OUT) for name, why in found.items()}

    def lost(self) -> set[str]:
        """Return the tests that had to run and did not."""
        if self.wanted is None:
            return set()
        return self.wanted - (self.ran - self.skipped.keys())

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.file:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            found = {"ran": len(self.ran - self.skipped.keys()), "left_out": self.left_out()}
            self.file.write_text(json.dumps(found, indent=1) + "\n")
        if self.wanted == set():
            session.exitstatus = pytest.ExitCode.OK  # nothing to run is no fault here
        if self.lost():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.ran:
            return
        terminalreporter.section("what was skipped, and why")
        for why, count in Counter(self.skipped.values()).most_common():
            terminalreporter.line(f"{count:5} tests {why}")
        terminalreporter.line(
            f"{len(self.ran)} tests: {len(self.ran - self.skipped.keys())} ran, {len(self.skipped)} skipped"
        )
        for name in sorted(self.lost()):
            terminalreporter.line(f"ERROR: left out by the first run, and not run now: {name}", red=True)
