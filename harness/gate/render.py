"""The verdict as people and machines read it: terminal, pull-request comment, JUnit XML, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from xml.etree import ElementTree

from rich.table import Table
from rich.text import Text

from harness.gate.compare import Comparison
from harness.gate.judge import ExitCode, Verdict
from harness.gate.limits import LimitResult
from harness.report.labels import p_value

SIGNS = {ExitCode.NO_WORSE: "✅", ExitCode.WORSE: "❌", ExitCode.CANNOT_COMPARE: "⚠️"}
ROWS_SHOWN = 40  # of a table in a comment; JSON has all


def terminal(verdict: Verdict) -> Iterator[Table | Text]:
    """Yield the tables of comparisons and limits, then faults, drift, changes and notes, and the verdict last."""
    if verdict.all_equal:
        yield Text(_equal(verdict))
    elif verdict.comparisons:
        table = Table("", "cell", "metric", header_style="bold")
        for name in ("before", "now", "change", "95 %", "n", "p"):
            table.add_column(name, justify="right", no_wrap=True)
        for c in verdict.comparisons:
            mark = Text("worse", "bold red") if c.worse else ""
            table.add_row(mark, *map(Text, _comparison_cells(c)))
        yield table
    if verdict.limits:
        table = Table("", "cell", "limit", "value", "bound", "n", header_style="bold")
        for limit in verdict.limits:
            mark = Text("broken", "bold red") if limit.broken else ""
            table.add_row(mark, *map(Text, _limit_cells(limit)))
        yield table
    for title, lines in _lists(verdict):
        yield Text(f"{title}:", "bold")
        yield from (Text(f"  {line}") for line in lines)
    yield Text(headline(verdict), "bold green" if verdict.code == ExitCode.NO_WORSE else "bold red")


def markdown(verdict: Verdict) -> str:
    """Return a comment for a pull request; at most `ROWS_SHOWN` rows a table, the worse ones first."""
    out = [f"### {SIGNS[verdict.code]} patchbench: {headline(verdict)}", ""]
    if verdict.all_equal:
        out += [_equal(verdict), ""]
    elif verdict.comparisons:
        out.append("| | cell | metric | before | now | change | 95 % interval | n | p |")
        out.append("|---|---|---|--:|--:|--:|--:|--:|--:|")
        rows = sorted(verdict.comparisons, key=lambda c: not c.worse)
        out += [_markdown_row("worse" if c.worse else "", _comparison_cells(c)) for c in rows[:ROWS_SHOWN]]
        if len(rows) > ROWS_SHOWN:
            out.append(f"\n{len(rows) - ROWS_SHOWN} more rows, none worse than those shown.")
        out.append("")
    if verdict.limits:
        out += ["| | cell | limit | value | bound | n |", "|---|---|---|--:|--:|--:|"]
        ranked = sorted(verdict.limits, key=lambda limit: not limit.broken)
        out += [_markdown_row("broken" if x.broken else "", _limit_cells(x)) for x in ranked[:ROWS_SHOWN]]
        out.append("")
    for title, lines in _lists(verdict):
        out += [f"**{title}**", "", *(f"- {_escape(line)}" for line in lines), ""]
    if verdict.comparisons and not verdict.all_equal:
        out.append(
            "Before, now and change: paired, over the images that count on both sides. p: one-sided, Holm-corrected "
            f"over a metric's cells. False alarms: at most {100 * verdict.alpha:.2g} % for the whole gate."
        )
    return "\n".join(out).rstrip() + "\n"


def junit(verdict: Verdict) -> str:
    """Return a test case for each comparison and limit; a fault is an error, a worse cell a failure."""
    suite = ElementTree.Element("testsuite", name="patchbench gate")
    for c in verdict.comparisons:
        before, now, change, interval = _rates(c)
        text = f"{before} before, {now} now, change {change} ({interval}), n {c.n}, p {p_value(c.p)}"
        _add_case(suite, c.metric, c.name, text, failed=c.worse, details="; ".join(c.changes))
    for limit in verdict.limits:
        text = f"{_percent(limit.value)}, bound {_percent(limit.bound)}, n {limit.n}"
        _add_case(suite, limit.rule, limit.name, text, failed=limit.broken)
    for fault in verdict.faults:
        case = ElementTree.SubElement(suite, "testcase", classname="cannot compare", name=fault)
        ElementTree.SubElement(case, "error", message=fault)
    notes = [_equal(verdict)] if verdict.all_equal else _drift(verdict)
    if notes:
        ElementTree.SubElement(suite, "system-out").text = "\n".join(notes)
    for tag, name in (("testcase", "tests"), ("failure", "failures"), ("error", "errors")):
        suite.set(name, str(sum(1 for _ in suite.iter(tag))))
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def as_json(verdict: Verdict) -> str:
    """Return the verdict in full as JSON."""
    content = {"schema": 1, "verdict": verdict.word, "all_equal": verdict.all_equal} | asdict(verdict)
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def headline(verdict: Verdict) -> str:
    """Return the verdict in one line."""
    if verdict.code == ExitCode.CANNOT_COMPARE:
        return f"cannot compare: {_count(len(verdict.faults), 'reason')}"
    if verdict.code == ExitCode.WORSE:
        return f"worse: {'; '.join(_regressions(verdict)) or 'predictions drift in an unchanged environment'}"
    judged = []
    if verdict.comparisons:
        judged.append(_count(len(verdict.comparisons), "comparison"))
    if verdict.limits:
        judged.append(f"{_count(len(verdict.limits), 'limit')} kept")
    if verdict.drift:
        judged.append(f"drift in {_count(len(verdict.drift), 'cell')}")
    return f"no worse: {', '.join(judged)}"


def _equal(verdict: Verdict) -> str:
    count = _count(len(verdict.comparisons), "comparison")
    return f"No rate changed: in {count}, every answer is the baseline's."


def _regressions(verdict: Verdict) -> Iterator[str]:
    worse = [c for c in verdict.comparisons if c.worse]
    if worse:
        most = max(worse, key=lambda c: abs(c.change))
        yield f"{len(worse)} of {len(verdict.comparisons)} comparisons, most of all {most.metric} of {most.name}"
    if broken := sum(limit.broken for limit in verdict.limits):
        yield f"{broken} of {len(verdict.limits)} limits broken"


def _lists(verdict: Verdict) -> Iterator[tuple[str, list[str]]]:
    places_of: dict[str, dict[str, None]] = {}
    for c in verdict.comparisons:
        for change in c.changes:
            places_of.setdefault(change, {})[c.name.partition(", ")[0]] = None
    changed = [f"{change}: {', '.join(places)}" for change, places in places_of.items()]
    for title, lines in (
        ("Why it cannot be compared", list(verdict.faults)),
        ("Drift: predictions flipped although file, patches, pixels, and environment are the same", _drift(verdict)),
        ("What changed", changed),
        ("Notes", list(verdict.notes)),
    ):
        if lines:
            yield title, lines


def _drift(verdict: Verdict) -> list[str]:
    return [f"{d.name}: {d.flips} of {d.n} predictions, first on {d.image}" for d in verdict.drift]


def _comparison_cells(c: Comparison) -> tuple[str, ...]:
    return c.name, c.metric, *_rates(c), str(c.n), p_value(c.p)


def _limit_cells(limit: LimitResult) -> tuple[str, ...]:
    return limit.name, limit.rule, _percent(limit.value), _percent(limit.bound), str(limit.n)


def _rates(c: Comparison) -> tuple[str, str, str, str]:
    change, low, high = (f"{round(100 * x, 1) + 0.0:+.1f}" for x in (c.change, c.low, c.high))
    return _percent(c.before), _percent(c.after), change, f"{low} to {high}"


def _markdown_row(mark: str, cells: tuple[str, ...]) -> str:
    bold = f"**{mark}**" if mark else ""
    name, *others = cells
    return f"| {bold} | {' | '.join([_escape(name), *(cell.replace('<=', '&lt;=') for cell in others)])} |"


def _add_case(suite: ElementTree.Element, kind: str, name: str, text: str, *, failed: bool, details: str = "") -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=kind, name=name)
    if failed:
        ElementTree.SubElement(case, "failure", message=text).text = details or None
    else:
        ElementTree.SubElement(case, "system-out").text = text


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`").replace("\n", " ")
