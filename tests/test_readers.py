"""Files that others wrote are opened by one reader per format, and by nothing else."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("backends", "exporters", "patches", "harness")
FILES = sorted(str(p.relative_to(ROOT)) for package in OURS for p in (ROOT / package).rglob("*.py"))

# What opens or parses a file: a function, or a module with all that is in it.
OPENERS = (
    "json.load", "json.loads", "json.JSONDecoder", "tomllib", "csv.reader", "csv.DictReader", "zipfile", "tarfile",
    "gzip", "bz2", "lzma", "pickle", "marshal", "shelve", "yaml", "xml.etree.ElementTree.parse",
    "numpy.load", "numpy.loadtxt", "numpy.genfromtxt", "numpy.fromfile", "numpy.memmap", "numpy.lib.format",
    "PIL.Image.open", "matplotlib.image.imread", "matplotlib.pyplot.imread", "torchvision.io",
    "pandas.read_csv", "pandas.read_json", "pandas.read_parquet", "pandas.read_pickle", "pandas.read_table",
    "pyarrow.parquet", "pyarrow.csv", "pyarrow.feather", "pyarrow.dataset", "pyarrow.ipc",
    "torch.load", "torch.jit.load", "onnx.load", "onnx.load_model", "onnx.load_model_from_string",
    "ai_edge_litert.schema_py_generated.ModelT.InitFromPackedBuf",
)  # fmt: skip
READERS = {
    "backends/device/reading.py": {"json.loads", "zipfile", "numpy.memmap", "numpy.lib.format"},
    "backends/toml_files.py": {"tomllib"},
    "backends/device/pictures.py": {"PIL.Image.open"},
    "harness/data_frames.py": {"csv.reader", "pandas.read_csv", "pyarrow.parquet"},
    "harness/networks/checkpoints.py": {"torch.load", "zipfile"},
    "exporters/files/onnx.py": {"onnx.load"},
    "exporters/files/tflite.py": {"ai_edge_litert.schema_py_generated.ModelT.InitFromPackedBuf"},
    "backends/device/runtimes/reference.py": {"onnx.load"},  # what a runtime does with its file is its own
    "backends/device/runtimes/qnn.py": {"onnx.load"},
    "backends/device/defences/jpeg.py": {"PIL.Image.open"},  # decodes the JPEG that it coded
    "backends/device/file_exchange.py": {"json.loads"},  # runs where nothing else of ours is yet
    "backends/sysroots.py": {"tarfile"},  # unpacks what docker exports
    "backends/device/appended.py": {"zipfile"},  # writes archives, and reads them by `open_zip`
    "harness/archives.py": {"zipfile"},  # likewise
    "exporters/tpu_mlir_layers.py": {"numpy.load"},  # what its caller just wrote, in another Python
    "exporters/rknn_build.py": {"json.loads", "numpy.load"},  # likewise
    "exporters/nncase_build.py": {"json.loads", "numpy.load"},  # likewise
    "exporters/esp_ppq_build.py": {"json.loads", "numpy.load"},  # likewise
}


def opened(source: str) -> Iterator[str]:
    """The openers that a file uses, under whatever names it imports them."""
    tree = ast.parse(source)
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                known[alias.asname or first] = alias.name if alias.asname else first
                yield from matching(alias.name)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield from matching(f"{node.module}.{alias.name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := dotted(node)):
            first, _, rest = name.partition(".")
            yield from matching(f"{known.get(first, first)}.{rest}")


def dotted(node: ast.expr) -> str:
    """``np.lib.format`` of a chain of attributes; empty for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def matching(name: str) -> list[str]:
    return [opener for opener in OPENERS if name == opener or name.startswith(f"{opener}.")]


@pytest.mark.parametrize("file", FILES)
def test_only_a_reader_opens_its_format(file):
    assert set(opened((ROOT / file).read_text())) == READERS.get(file, set())


@pytest.mark.parametrize(
    ("source", "opener"),
    [
        ("import json\njson.loads('{}')", "json.loads"),
        ("from json import load as read\nread(f)", "json.load"),
        ("import numpy as np\ndef f():\n    return np.load('x')", "numpy.load"),
        ("import numpy\nnumpy.lib.format.open_memmap('x')", "numpy.lib.format"),
        ("from PIL import Image\nwith Image.open('x') as p: pass", "PIL.Image.open"),
        ("import PIL.Image\nPIL.Image.open('x')", "PIL.Image.open"),
        ("def f():\n    import tomllib as t\n    t.load(f)", "tomllib"),
        ("from zipfile import ZipFile", "zipfile"),
        ("import pandas as pd\npd.read_parquet('x').head()", "pandas.read_parquet"),
        ("import pyarrow.parquet as pq\npq.read_table('x')", "pyarrow.parquet"),
        ("import torch\nread = torch.load", "torch.load"),
        ("import onnx.shape_inference\nonnx.load('x')", "onnx.load"),
    ],
)
def test_the_rule_finds_what_breaks_it(source, opener):
    assert set(opened(source)) == {opener}


def test_writing_is_no_opening():
    assert not list(opened("import csv, json, numpy as np\njson.dumps(1)\nnp.save('x', 1)\ncsv.writer(f)"))
