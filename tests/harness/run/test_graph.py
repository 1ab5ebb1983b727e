"""The graph of a plan: what waits for what."""

import math
from pathlib import Path

from harness.config import read_suite
from harness.plan.plan import make
from harness.run.cluster import priority
from harness.run.graph import graph

SUITE = """
schema = 1
name = "twins"
[data]
name = "digits"
calibration = 32
craft = 8
evaluate = 8
[[victim]]
name = "cnn"
model = "plain_cnn"
weights = "DIGITS_V1"
[[export]]
format = "onnx"
calibration = ["minmax", "moving_average"]
[[attack]]
name = "gap"
surrogate = ["float", "twin:cnn-onnx-s8s8-minmax", "twin:cnn-onnx-s8s8-moving_average"]
pixels = 3
[[target]]
name = "here"
runtime = "onnxruntime"
"""


def test_a_patch_on_a_twin_waits_for_its_own_twin_s_check_and_file_alone(tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(SUITE)
    plan = make(read_suite(tmp_path / "suite.toml"), None, None)
    nodes = graph(plan)
    files = {step.name: f"artifact:{step.key}" for step in plan.artifacts}
    assert len(files) == 2
    seen = set()
    for patch in plan.patches:
        after = nodes[f"patch:{patch.key}"].after
        if patch.surrogate and patch.surrogate.artifact:
            file = files[patch.surrogate.artifact.name]
            checks = {name for name in after if nodes[name].verb == "check"}
            assert after & set(files.values()) == {file}
            assert [nodes[name].after & set(files.values()) for name in checks] == [{file}]
            seen |= checks
        else:
            assert not after & set(files.values())
    assert len(seen) == 2


def test_of_equally_urgent_nodes_the_longest_comes_first_and_none_before_a_more_urgent_one(tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(SUITE)
    nodes = list(graph(make(read_suite(tmp_path / "suite.toml"), None, None)).values())
    some = (1.0, 10.0, 100.0, 1e4, 1e6, math.inf)  # the last has never been measured
    seconds = {result: some[number % len(some)] for number, node in enumerate(nodes) for result in node.results}
    in_turn = sorted(nodes, key=lambda node: -priority(node, seconds))
    lasts = [sum(seconds.get(result, 0.0) for result in node.results) for node in in_turn]
    assert [node.urgency for node in in_turn] == sorted((node.urgency for node in nodes), reverse=True)
    pairs = zip(in_turn, in_turn[1:], lasts, lasts[1:], strict=False)
    assert all(one >= other for a, b, one, other in pairs if a.urgency == b.urgency)
    assert len(set(lasts)) > 3
