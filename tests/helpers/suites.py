"""Suites for tests: small, real, and quick to carry out."""

from pathlib import Path

QUICK = """
schema = 1
name = "quick"
[data]
name = "digits"
calibration = 8
craft = 64
evaluate = 40
[[victim]]
name = "resnet8"
model = "resnet8"
[victim.train]
epochs = 1
[[export]]
format = "onnx"
calibration = ["minmax", "moving_average"]
[[attack]]
name = "gap"
target_classes = [3]
pixels = 8
options = { steps = 3 }
[controls]
noise = 1
[latency]
warmup = 1
runs = 5
seconds = 0
[[target]]
name = "ort"
runtime = "onnxruntime"
"""
SECOND_TARGET = '\n[[target]]\nname = "ort-plain"\nruntime = "onnxruntime"\noptions = { optimization = "disabled" }\n'


def write(folder: Path, text: str = QUICK) -> Path:
    """The suite as a file."""
    path = folder / "suite.toml"
    path.write_text(text)
    return path


def on_a_twin(file: str, surrogate: str, runtime: str, side: int) -> str:
    """A suite of one patch that is made on a file's twin, and replayed on the target ``device``."""
    return f"""
schema = 1
name = "twins"
[data]
name = "digits"
calibration = 1
craft = 8
evaluate = 8
[[artifact]]
name = "net"
file = "{file}"
input_size = [{side}, {side}]
[[attack]]
name = "gap"
surrogate = "{surrogate}"
pixels = 3
options = {{ steps = 1, batch = 4 }}
[[target]]
name = "device"
runtime = "{runtime}"
[controls]
noise = 0
grey = 0
"""
