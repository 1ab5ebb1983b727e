"""Run directories, baselines, suites and rules, as the fuzzer changes them."""

from __future__ import annotations

import base64
import io
import json
import tomllib
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import mutations
import pandas as pd
from campaign import SUITE
from hypothesis import strategies as some
from mutations import Draw, either
from subject import Files, Subject, files_of, resealed

RULES = {"schema": 1, "confidence": 0.99, "drift": "report",
         "compare": [{"metric": "targeted_success", "worse": "higher", "margin": 0.02, "where": {"target": "ort*"}}],
         "limit": [{"rule": "clean_accuracy >= 0.1", "confidence": 0.95, "where": {"precision": "w8a8"}}]}  # fmt: skip


def runs(made: Path) -> Iterator[Subject]:
    """Run directories and baselines, through the gate and the report; a changed one gets the right hashes."""

    def judge(folder: Path) -> object:
        return verdict(made / "frozen" / "baseline.json", folder / "files")

    def compare(folder: Path) -> object:
        from harness.results.baseline import patches_of

        file = folder / "files" / "baseline.json"
        return verdict(file, made / "run"), patches_of(file)

    def tabulate(folder: Path) -> object:
        from harness.console import console
        from harness.report.terminal import table
        from harness.results.run_directory import read_run, read_summary

        run = read_run(folder / "files")
        return table(pd.DataFrame(read_summary(folder / "files", run).over_patches), console())

    def report(folder: Path) -> object:
        from harness.run.run import write_results

        return write_results(folder / "files")

    run = {name: data for name, data in files_of(made / "run").items() if not name.startswith(("store/", "."))}
    yield Subject("run.json", 3, run, partial(_change_run, "run.json"), judge)
    yield Subject("records.parquet", 2, run, partial(_change_run, "records.parquet"), judge)
    yield Subject("summary.json", 3, run, partial(_change_run, "summary.json"), tabulate)
    yield Subject("run.json, to the report", 1, run, partial(_change_run, "run.json"), report, most=20)
    frozen = files_of(made / "frozen")
    yield Subject("baseline", 6, frozen, _baseline, compare)


def _change_run(which: str, draw: Draw, files: Files) -> Files:
    change = _parquet if which.endswith(".parquet") else mutations.json_text
    return resealed(draw, files, {which: change(draw, files[which])})


def _parquet(draw: Draw, content: bytes) -> bytes:
    """Change a column of a table, or the bytes of its file."""
    if either(draw, (1, False), (1, True)):
        return mutations.raw_bytes(draw, content)
    table = pd.read_parquet(io.BytesIO(content))
    column = draw(some.sampled_from(list(table)))
    match either(draw, (2, "values"), (1, "remove"), (1, "rename"), (1, "rows")):
        case "values":
            table[column] = [
                draw(mutations.scalars.filter(lambda one: not isinstance(one, int) or one.bit_length() < 63))
            ] * len(table)
        case "remove":
            del table[column]
        case "rename":
            table = table.rename(columns={column: draw(some.sampled_from(["", "x", "pred", "image"]))})
        case "rows":
            table = table.iloc[: draw(some.integers(0, 40))]
    out = io.BytesIO()
    try:
        table.to_parquet(out)
    except Exception:  # what it cannot write is no file
        return mutations.raw_bytes(draw, content)
    return out.getvalue()


def _baseline(draw: Draw, files: Files) -> Files:
    """Change a baseline, or what is packed in it."""
    content = files["baseline.json"]
    if either(draw, (3, False), (1, True)):
        document = json.loads(content)
        packed = draw(some.sampled_from([document["images"], document["labels"], document["preds"]]))
        data = zlib.decompress(base64.b64decode(packed["zlib"]))
        data = bytes(mutations.BOMB) if either(draw, (30, False), (1, True)) else mutations.raw_bytes(draw, data)
        packed["zlib"] = base64.b64encode(zlib.compress(data)).decode()
        return resealed(draw, files, {"baseline.json": json.dumps(document).encode()})
    return resealed(draw, files, {"baseline.json": mutations.json_text(draw, content)})


def suites(made: Path) -> Iterator[Subject]:
    """Suites, up to their plan, and rules of a gate, up to the verdict."""

    def plan(folder: Path) -> object:
        from harness.config import read_suite
        from harness.plan.plan import make

        planned = make(read_suite(folder / "files" / "suite.toml"), folder / "files", folder / "out")
        return planned.key, planned.left_out

    def judge(folder: Path) -> object:
        return verdict(made / "frozen" / "baseline.json", made / "run", folder / "files" / "rules.toml")

    suite = tomllib.loads(SUITE.read_text())
    suite["target"][0] |= {
        "version": "1.0",
        "host": "local",
        "arch": "x86_64",
        "image": "x",
        "address": "y",
        "threads": 1,
    }
    text: Files = {"suite.toml": mutations.toml_of(suite)}
    yield Subject(
        "suite", 8, text, lambda draw, _: {"suite.toml": mutations.toml_text(draw, suite)}, plan, trusted=True
    )
    rules: Files = {"rules.toml": mutations.toml_of(RULES)}
    yield Subject("rules", 2, rules, lambda draw, _: {"rules.toml": mutations.toml_text(draw, RULES)}, judge)


def verdict(baseline: Path, run: Path, rules: Path | None = None) -> str:
    """Judge a run, and write the verdict in all its forms."""
    from harness.gate import render
    from harness.gate.judge import judge
    from harness.gate.rules import read as read_rules
    from harness.results.baseline import read

    found = judge(read(baseline), read(run), read_rules(rules))
    return render.as_json(found) + render.markdown(found) + render.junit(found)
