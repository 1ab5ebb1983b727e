"""A third-party runtime that goes wrong on request."""

from pathlib import Path

FAULTY = '''
import os, signal, tempfile, time
from pathlib import Path
import numpy as np
from backends.device.runtimes.onnxruntime import Engine as Real

class Engine(Real):
    """onnxruntime, until it has seen so many images; then the fault of its option."""
    package = "onnxruntime"
    def load(self, path, options, threads):
        self.fault, self.after, self.seen = options["fault"], options["after"], 0
        with tempfile.TemporaryDirectory() as folder:
            if self.fault == "layer":
                path = negated(path, options["weights"], Path(folder) / "wrong.onnx")
            super().load(path, {}, threads)
    def run(self, x):
        self.seen += 1
        answers = super().run(x * 255 if self.fault == "raw" else x)
        if self.seen <= self.after or self.fault in ("raw", "layer"):
            return answers
        if self.fault == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.fault == "hang":
            time.sleep(3600)
        return np.zeros_like(answers) if self.fault == "zeros" else np.full_like(answers, np.nan)

def negated(path, weights, into):
    import onnx
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), weights))
    onnx.save(model, into)
    return into
'''


def install(folder: Path) -> Path:
    """Install it as a distribution of its own; return the folder for ``PYTHONPATH``."""
    about = folder / "faulty-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[patchbench.runtimes]\nfaulty = faulty:Engine\n")
    (folder / "faulty.py").write_text(FAULTY)
    return folder
