"""Find which operators of a TFLite file run in a delegate; the interpreter does not report it."""

from __future__ import annotations

from collections import Counter
from typing import Any

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def inside(interpreter: Any) -> frozenset[int]:
    """Return the indices of the operators that delegates of an allocated interpreter run.

    The interpreter lists the tensors that enter and leave its delegates. An operator is outside if its output leaves no
    delegate, yet enters a delegate or an operator outside, or leaves the network.
    """
    nodes = [
        (n["op_name"], set(map(int, n["inputs"])), set(map(int, n["outputs"]))) for n in interpreter._get_ops_details()
    ]
    parts = [node for node in nodes if node[0] == "DELEGATE"]
    going, coming = (set().union(*(part[side] for part in parts)) for side in (1, 2))
    going |= {d["index"] for d in interpreter.get_output_details()}
    found = set()
    for index, (name, inputs, outputs) in reversed(list(enumerate(nodes))):
        if name == "DELEGATE":
            continue
        if parts and (outputs & coming or not outputs & going):
            found.add(index)
        else:
            going |= inputs
    return frozenset(found)


def weighted_outside(interpreter: Any) -> str:
    """Count the operators with weights that no delegate runs, such as ``19 CONV_2D``; empty if there are none."""
    names, taken = [n["op_name"] for n in interpreter._get_ops_details()], inside(interpreter)
    left = Counter(name for index, name in enumerate(names) if name in WEIGHTED and index not in taken)
    return ", ".join(f"{n} {name}" for name, n in left.most_common())
