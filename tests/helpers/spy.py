# A third party's runtime, put into an image of its own. It tells what it sees from inside, and does as it is told in
# its run 3, that of the first case's second image.
SPY = """
import ctypes, importlib.util, json, os, shutil, signal
from pathlib import Path
import numpy as np
from backends.device.runtimes import Tensor

def writable():
    for folder, inner, _ in os.walk("/"):
        inner[:] = [name for name in inner if (folder, name) not in (("/", "proc"), ("/", "sys"))]
        path = os.path.join(folder, "spy")
        try:
            open(path, "x").close()
        except OSError:
            continue
        os.unlink(path)
        yield folder

def limit(*files):
    return next(Path(f).read_text().strip() for f in files if Path(f).exists())

class Engine:
    formats, package = ("onnx", "tflite"), "numpy"

    def load(self, path, options, threads):
        self.fault, self.runs = options.get("fault"), 0
        self.input = Tensor((None,) * 4, np.dtype(np.float32))
        self.output = Tensor((None, None), np.dtype(np.float32))

    def run(self, x):
        self.runs += 1
        if self.runs == 3 and self.fault == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.runs == 3 and self.fault == "memory":
            hoard = [bytearray(os.urandom(1 << 20)) * 64 for _ in range(1000)]
        if self.runs == 3 and self.fault == "hang":
            ctypes.PyDLL(None).sleep(1000)  # keeps the interpreter's lock
        return x.reshape(len(x), -1)[:, :4].copy()

    def info(self):
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        seen = {
            "ids": [*os.getresuid(), *os.getresgid()],
            "capabilities": [int(status[f"Cap{kind}"], 16) for kind in ("Prm", "Eff", "Bnd", "Amb")],
            "no new privileges": status["NoNewPrivs"].strip(),
            "networks": os.listdir("/sys/class/net"),
            "writable": list(writable()),
            "processes": limit("/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max"),
            "there": [name for name in ("torch", "pip", "setuptools", "harness") if importlib.util.find_spec(name)],
            "tools": [name for name in ("gcc", "cc", "make", "pip", "pip3") if shutil.which(name)],
        }
        return {"version": "1", "kernels": "spy", "threads": "1", "seen": json.dumps(seen)}
"""
