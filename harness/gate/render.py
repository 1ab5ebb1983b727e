"""The verdict as people and machines read it: for a terminal, a pull request, a CI's test report, a program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from xml.etree import ElementTree

from rich.table import Table
from rich.text import Text

from harness.gate.compare import Comparison
from harness.gate.judge import CANNOT_COMPARE, WORSE, Verdict

SIGNS = {0: "✅", 1: "❌", 2: "⚠️"}
SHOWN = 40  # rows of a comment; a program reads all


def terminal(verdict: Verdict) -> Iterator[Table | Text]:
    """Tables of what was compared and of limits, then what needs words, and the verdict last."""
    if verdict.comparisons:
        table = Table("", "cell", "metric", header_style="bold")
        for name in ("before", "now", "change", "95 %", "n", "p"):
            table.add_column(name, justify="right", no_wrap=True)
        for c in verdict.comparisons:
            row = (c.name, c.metric, *_rates(c), str(c.n), _p(c.p))
            table.add_row(Text("worse", "bold red") if c.worse else "", *map(Text, row))
        yield table
    if verdict.limits:
        table = Table("", "cell", "limit", "value", "bound", "n", header_style="bold")
        for h in verdict.limits:
            held = (h.name, h.rule, _percent(h.value), _percent(h.bound), str(h.n))
            table.add_row(Text("broken", "bold red") if h.broken else "", *map(Text, held))
        yield table
    for title, lines in _lists(verdict):
        yield Text(f"{title}:", "bold")
        yield from (Text(f"  {line}") for line in lines)
    style = "bold green" if not verdict.code else "bold red"
    yield Text(headline(verdict), style)


def markdown(verdict: Verdict) -> str:
    """A comment for a pull request; at most `SHOWN` rows a table, the worse ones first."""
    out = [f"### {SIGNS[verdict.code]} patchbench: {headline(verdict)}", ""]
    if verdict.comparisons:
        out += [
            "| | cell | metric | before | now | change | 95 % interval | n | p |",
            "|---|---|---|--:|--:|--:|--:|--:|--:|",
        ]
        rows = sorted(verdict.comparisons, key=lambda c: not c.worse)
        for c in rows[:SHOWN]:
            cells = (_escape(c.name), c.metric, *_rates(c), str(c.n), _p(c.p))
            out.append(f"| {'**worse**' if c.worse else ''} | {' | '.join(cells)} |")
        out += [f"\n{len(rows) - SHOWN} more rows, none worse than those shown."] if len(rows) > SHOWN else []
        out.append("")
    if verdict.limits:
        out += ["| | cell | limit | value | bound | n |", "|---|---|---|--:|--:|--:|"]
        for h in sorted(verdict.limits, key=lambda h: not h.broken)[:SHOWN]:
            row = (_escape(h.name), h.rule.replace("<", "&lt;"), _percent(h.value), _percent(h.bound), str(h.n))
            out.append(f"| {'**broken**' if h.broken else ''} | {' | '.join(row)} |")
        out.append("")
    for title, lines in _lists(verdict):
        out += [f"**{title}**", "", *(f"- {_escape(line)}" for line in lines), ""]
    if verdict.comparisons:
        out.append(
            "Change: paired, image by image, over the images that count on both sides. p: one-sided, Holm-corrected "
            f"over a metric's cells; false alarms: at most {100 * verdict.alpha:.2g} % for the whole gate."
        )
    return "\n".join(out).rstrip() + "\n"


def junit(verdict: Verdict) -> str:
    """A test case for each comparison and limit; what can't be compared is an error, what is worse a failure."""
    suite = ElementTree.Element("testsuite", name="patchbench gate")
    for c in verdict.comparisons:
        case = ElementTree.SubElement(suite, "testcase", classname=c.metric, name=c.name)
        before, now, change, interval = _rates(c)
        text = f"{before} became {now}, change {change} ({interval}), n {c.n}, p {_p(c.p)}"
        if c.worse:
            ElementTree.SubElement(case, "failure", message=text).text = "; ".join(c.changes)
        else:
            ElementTree.SubElement(case, "system-out").text = text
    for h in verdict.limits:
        case = ElementTree.SubElement(suite, "testcase", classname=h.rule, name=h.name)
        text = f"{_percent(h.value)}, bound {_percent(h.bound)}, n {h.n}"
        if h.broken:
            ElementTree.SubElement(case, "failure", message=text)
        else:
            ElementTree.SubElement(case, "system-out").text = text
    for fault in verdict.faults:
        case = ElementTree.SubElement(suite, "testcase", classname="cannot compare", name=fault)
        ElementTree.SubElement(case, "error", message=fault)
    if verdict.drift:
        ElementTree.SubElement(suite, "system-out").text = "\n".join(_drift(verdict))
    for tag, name in (("testcase", "tests"), ("failure", "failures"), ("error", "errors")):
        suite.set(name, str(sum(1 for _ in suite.iter(tag))))
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def as_json(verdict: Verdict) -> str:
    """Everything, for a program."""
    content = {"schema": 1, "verdict": verdict.word} | asdict(verdict)
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def headline(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    if verdict.code == CANNOT_COMPARE:
        return f"cannot compare: {len(verdict.faults)} reason{'s' * (len(verdict.faults) != 1)}"
    bad = [c for c in verdict.comparisons if c.worse]
    broken = [h for h in verdict.limits if h.broken]
    said = []
    if bad:
        most = max(bad, key=lambda c: abs(c.change))
        said.append(f"{len(bad)} of {len(verdict.comparisons)} comparisons, most {most.metric} of {most.name}")
    if broken:
        said.append(f"{len(broken)} of {len(verdict.limits)} limits broken")
    if verdict.code == WORSE and not said:
        said.append("predictions drift in an unchanged environment")
    if verdict.code == WORSE:
        return f"worse: {'; '.join(said)}"
    judged = [f"{len(verdict.comparisons)} comparisons"] * bool(verdict.comparisons)
    judged += [f"{len(verdict.limits)} limits hold"] * bool(verdict.limits)
    return f"no worse: {', '.join(judged)}" + (f", {len(verdict.drift)} cells drift" if verdict.drift else "")


def _lists(verdict: Verdict) -> Iterator[tuple[str, list[str]]]:
    by_change: dict[str, list[str]] = {}
    for c in verdict.comparisons:
        for change in c.changes:
            place = c.name.partition(", ")[0]
            if place not in by_change.setdefault(change, []):
                by_change[change].append(place)
    changed = [f"{change}: {', '.join(places)}" for change, places in by_change.items()]
    for title, lines in (
        ("Why it cannot be compared", list(verdict.faults)),
        ("Drift: predictions flipped though file, patches, pixels and environment are the same", _drift(verdict)),
        ("What changed", changed),
        ("Notes", list(verdict.notes)),
    ):
        if lines:
            yield title, lines


def _drift(verdict: Verdict) -> list[str]:
    return [f"{d.name}: {d.flips} of {d.n} predictions, first on {d.image}" for d in verdict.drift]


def _rates(c: Comparison) -> tuple[str, str, str, str]:
    change, low, high = (f"{round(100 * x, 1) + 0.0:+.1f}" for x in (c.change, c.low, c.high))
    return _percent(c.before), _percent(c.after), change, f"{low} to {high}"


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _p(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-4 else "<0.0001"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`").replace("\n", " ")
