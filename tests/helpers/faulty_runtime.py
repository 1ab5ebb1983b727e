"""A third-party runtime that fails on request."""

FAULTY = '''
import os, signal, time
from pathlib import Path
import numpy as np
from backends.device.runtimes.onnxruntime import Engine as Real

class Engine(Real):
    """onnxruntime, until it has seen so many images; then the fault of its option."""
    package = "onnxruntime"
    def load(self, path, options, threads):
        self.fault, self.after, self.seen = options["fault"], options["after"], 0
        super().load(path, {}, threads)
    def run(self, x):
        self.seen += 1
        answers = super().run(x)
        if self.seen <= self.after:
            return answers
        if self.fault == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.fault == "hang":
            time.sleep(3600)
        return np.full_like(answers, np.nan)
'''
