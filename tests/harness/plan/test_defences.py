"""Plans with defences: every case meets each, and a clean one stands beside it."""

from collections import Counter
from pathlib import Path

from helpers.plans import keys, plan
from helpers.suites import QUICK

from harness.results import records


def test_every_case_meets_every_defence_and_its_clean_one_stands_beside_it(tmp_path: Path) -> None:
    text = QUICK.replace("[data]", 'defence = ["none", "jpeg:75", "median:3"]\n[data]', 1)
    plain, made = (
        plan(tmp_path),
        plan(tmp_path, text.replace('name = "gap"', 'name = "gap"\ndefence = ["none", "jpeg:75"]')),
    )
    # torch and two artifacts, three times: clean, two kinds of patches, two controls
    assert len(made.cells) == 3 * 3 * 5
    of = Counter(
        (c.replay.case.patch.name if c.replay.case.patch else "none", c.replay.case.defence) for c in made.cells
    )
    assert {defence for _, defence in of} == {"", "jpeg:75", "median:3"}
    assert set(of.values()) == {3}
    assert keys(plain, "replays") < keys(made, "replays"), "what has no defence stays what it was"
    assert keys(plain, "patches") < keys(made, "patches")
    (adaptive,) = keys(made, "patches") - keys(plain, "patches")
    assert next(p.name for p in made.patches if p.key == adaptive).startswith(
        "gap-float-resnet8-c3-s0-8px-defence-jpeg75"
    )
    cells = [records.columns(c, records.Answers(None, "", {}, {}), c.replay.artifact.precision) for c in made.cells]
    assert {c["surrogate"] for c in cells} == {"", "float", "float with defence jpeg:75"}
    assert len({case.name for case in {c.replay.case for c in made.cells}}) == 3 * 5
    assert [step.defence for step in made.latencies][:3] == ["", "jpeg:75", "median:3"]


def test_a_defence_alone_still_has_the_clean_network_without_it(tmp_path: Path) -> None:
    made = plan(tmp_path, QUICK.replace("[data]", 'defence = "median:3"\n[data]', 1))
    found = {
        (c.replay.case.name if c.replay.case.patch is None else "patched", c.replay.case.defence) for c in made.cells
    }
    assert found == {("none", ""), ("none-median3", "median:3"), ("patched", "median:3")}
