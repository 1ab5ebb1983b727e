"""Which operators of a TFLite file its interpreter gave to a delegate, which it does not tell."""

from __future__ import annotations

from collections import Counter
from typing import Any

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def inside(interpreter: Any) -> frozenset[int]:
    """The operators, by index, that delegates of an allocated interpreter run.

    It tells the tensors that go into its delegates and come out of them. An operator is left outside if its output does
    not come out of one, though it goes into one, into another operator outside, or out of the network.
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
    """``19 CONV_2D`` and the like: the operators with weights that no delegate runs; empty where there are none."""
    names, taken = [n["op_name"] for n in interpreter._get_ops_details()], inside(interpreter)
    left = Counter(name for index, name in enumerate(names) if name in WEIGHTED and index not in taken)
    return ", ".join(f"{n} {name}" for name, n in left.most_common())
