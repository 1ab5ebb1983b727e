"""Runtimes in an environment of their own, where this Python lacks their package, answering as if they were here.

Run as a program this serves them: calls come as lines of JSON, arrays as files beside, until standard input ends.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from backends.device.errors import UserError
from backends.device.runtimes import Tensor, engine


class Elsewhere:
    """The methods of a runtime's Engine."""

    def __init__(self, name):
        self.name = name

    def load(self, path, options, threads):
        tensors = self.call("load", str(path), options, threads)
        self.input, self.output = (Tensor(tuple(shape), np.dtype(dtype), *rest) for shape, dtype, *rest in tensors)

    def run(self, x):
        return self.call("run", array=x)

    def info(self):
        return self.call("info")

    def call(self, method, *arguments, array=None):
        process, folder = serving(self.name)
        if array is not None:
            np.save(folder / "in.npy", array, allow_pickle=False)
        process.stdin.write(json.dumps([id(self), method, arguments]) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        if "error" in answer:
            raise UserError(answer["error"])
        if array is None:
            return answer["value"]
        return np.load(folder / "out.npy", allow_pickle=False)


@functools.cache
def serving(name):
    """One process a runtime: TensorFlow takes seconds to import."""
    from backends import environments
    from backends.hosts import local
    from helpers.required import absent

    requirements, folder = environments.pinned(engine(name).package), Path(tempfile.mkdtemp())
    try:
        environments.make_environment(requirements, lambda word: None)
    except UserError as error:
        absent("environments", str(error))
    python, path = local.interpreter(requirements)
    command, pipe = [python, __file__, name, str(folder)], subprocess.PIPE
    variables = {"PYTHONPATH": os.pathsep.join(path)}
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=variables
    ), folder


def serve(name, folder, answers):
    runtimes = {}
    for line in sys.stdin:
        key, method, arguments = json.loads(line)
        if method == "load":
            runtimes[key], arguments[0] = engine(name)(), Path(arguments[0])
        if method == "run":
            arguments = [np.load(folder / "in.npy", allow_pickle=False)]
            before = arguments[0].copy()
        try:
            answer = {"value": getattr(runtimes[key], method)(*arguments)}
            if method == "load":
                tensors = runtimes[key].input, runtimes[key].output
                answer = {"value": [(t.shape, t.dtype.name, t.scale, t.zero_point) for t in tensors]}
        except UserError as error:
            answer = {"error": str(error)}
        if method == "run":
            np.testing.assert_array_equal(arguments[0], before)
            np.save(folder / "out.npy", answer.pop("value"), allow_pickle=False)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a runtime prints
    serve(sys.argv[1], Path(sys.argv[2]), stream)
