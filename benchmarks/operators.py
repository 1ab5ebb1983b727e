"""Draw operators and compare their twins with the kernels: ``python benchmarks/operators.py [CASES] [--only NAME]``.

CASES is how many are drawn of each operator, types and kernels, by the strategies of ``tests/helpers/drawn*.py``. Adds
to ``out/operators.jsonl``, so that a second run continues where the first stopped, and writes
``benchmarks/results/operators.md`` from it.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from helpers import drawn, drawn_onnx

from backends.device.errors import UserError
from patches.twins import KERNELS

TABLE = Path(__file__).parent / "results" / "operators.md"
EACH = 300


class Kind(NamedTuple):
    """What is drawn: an operator of a format, the integers of activations (and weights), and whose kernels run it."""

    operator: str
    types: str
    kernels: str

    def draw(self, draw: drawn.Draw) -> str:
        """Draw a case and compare it; return what came out."""
        try:
            if self.kernels == "onnxruntime":
                found = drawn.onnx(draw, self.operator, *self.types.split(", "))
            elif self.kernels == "executorch":
                found = drawn.pte(draw, self.operator)
            else:
                found = drawn.tflite(draw, self.operator, self.types, self.kernels)
        except UserError as error:
            return f"refused: {error}"
        return "different" if drawn.unequal(found) else "equal"


def main(
    cases: Annotated[int, typer.Argument()] = EACH,
    only: Annotated[str, typer.Option()] = "",
    seed: Annotated[int, typer.Option()] = 0,
    rows_file: Annotated[Path, typer.Option("--rows")] = Path("out/operators.jsonl"),
) -> None:
    """Draw every operator, then write the table."""
    rows_file.parent.mkdir(parents=True, exist_ok=True)
    rows_file.touch()
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
    done = {tuple(row["kind"]) for row in rows}
    for kind in kinds():
        if kind in done or only not in kind.operator:
            continue
        counts = count(kind.draw, cases, seed)
        rows.append({"kind": kind, "counts": counts})
        with rows_file.open("a") as stream:
            stream.write(json.dumps(rows[-1]) + "\n")
        print(*kind, dict(counts), flush=True)
    TABLE.write_text(table(rows))


def kinds() -> Iterator[Kind]:
    """Yield every operator in every type on all its kernels."""
    for name, dtype in drawn.kinds():
        yield from (Kind(name, dtype, kernels) for kernels in KERNELS[".tflite"])
    for name in drawn.ONNX:
        yield from (Kind(name, ", ".join(types), "onnxruntime") for types in drawn_onnx.TYPES)
    yield from (Kind(name, "int8", "executorch") for name in drawn.PTE)


def count(draw: Callable[[drawn.Draw], str], cases: int, seed: int) -> Counter[str]:
    """Draw this many cases and count what came out."""
    counts: Counter[str] = Counter()

    @seeded(seed)
    @settings(max_examples=cases, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.data())
    def case(data: st.DataObject) -> None:
        counts[draw(data.draw)] += 1

    case()
    return counts


def table(rows: list[dict[str, object]]) -> str:
    """Return a line for each operator and kernels, of both types."""
    sums: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        operator, _, kernels = row["kind"]
        outcomes = Counter({key.partition(":")[0]: n for key, n in row["counts"].items()})
        sums.setdefault((operator, kernels), Counter()).update(outcomes)
    whole = sum(sums.values(), Counter())
    lines = [
        "Operators drawn at random, one to a file, by `benchmarks/operators.py`: shapes, strides, padding, groups,",
        "scales (half of them round, at which results lie between two integers), zero points, axes, constants and",
        "fused activations. All integers of the twin are compared with those of the kernels, on images of all",
        "levels, of extremes and of noise, one by one and as a batch.",
        "",
        f"{whole.total()} cases, {whole['different']} with a difference, {whole['refused']} refused.",
        "",
        "| operator | kernels | cases | with a difference | refused |",
        "|---|---|---:|---:|---:|",
    ]
    for (operator, kernels), counts in sums.items():
        lines.append(f"| {operator} | {kernels} | {counts.total()} | {counts['different']} | {counts['refused']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
