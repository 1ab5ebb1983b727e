"""Vendors' runtimes for boards, which run on no other machine: a float network stands in the NPU's place, behind what
the vendors' documentation says of their Python.
"""

import sys
from pathlib import Path

import pytest
from helpers.tiny import pixels

from backends.conformance import networks
from backends.device.errors import UserError
from backends.device.runtimes import Runtime, engine, prepare
from backends.device.toolchains import ON_BOARDS

FILES = {"rknn_lite": networks.file("rknn"), "sail": networks.file("cvimodel")}
RKNNLITE = """
import onnxruntime

class RKNNLite:
    def load_rknn(self, path):
        return {load}

    def init_runtime(self):
        self.session = onnxruntime.InferenceSession({network!r})
        return {start}

    def inference(self, inputs, data_format=None):
        (image,) = inputs
        assert image.flags.c_contiguous and data_format in (None, "nhwc")
        return self.session.run(None, {{self.session.get_inputs()[0].name: image.transpose(0, 3, 1, 2)}})
"""
SAIL = """
import enum
import onnxruntime

class IOMode(enum.Enum):
    SYSIO = 2

class Engine:
    def __init__(self, path, tpu_id, mode):
        if {load}:
            raise RuntimeError("no TPU")
        assert (tpu_id, mode) == (0, IOMode.SYSIO)
        self.session = onnxruntime.InferenceSession({network!r})

    def get_graph_names(self):
        return ["net"]

    def get_input_names(self, graph):
        return [one.name for one in self.session.get_inputs()]

    def process(self, graph, inputs):
        return {{"logits_f32": self.session.run(None, inputs)[0]}}
"""
MODULES = {"rknn_lite": ("rknnlite/api.py", RKNNLITE), "sail": ("sophon/sail.py", SAIL)}


def stand_in(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, load: int = 0, start: int = 0) -> Runtime:
    where, code = MODULES[name]
    path = folder / where
    path.parent.mkdir()
    (path.parent / "__init__.py").touch()
    path.write_text(code.format(network=str(networks.file("onnx")), load=load, start=start))
    for module in (path.parent.name, f"{path.parent.name}.{path.stem}"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(str(folder))
    return engine(name)()


@pytest.mark.parametrize("name", FILES)
def test_images_reach_the_npu_as_its_runtime_takes_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, file, images = stand_in(name, tmp_path, monkeypatch), FILES[name], pixels(5)
    runtime.load(file, {}, 1)
    given = networks.artifact(file).preproc(images)
    logits = runtime.run(prepare(runtime.input, given, file))
    assert networks.faults("onnx", images, logits) == ""


@pytest.mark.parametrize(("name", "load", "start"), [("rknn_lite", -1, 0), ("rknn_lite", 0, -4), ("sail", 1, 0)])
def test_what_the_npu_refuses_is_one_line(
    name: str, load: int, start: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = stand_in(name, tmp_path, monkeypatch, load, start)
    with pytest.raises(UserError, match=rf"^{FILES[name]}: {runtime.package} cannot \w+ it on this machine's") as error:
        runtime.load(FILES[name], {}, 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", FILES)
def test_a_machine_without_the_package_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(MODULES[name][0])
    for module in (path.parent.name, f"{path.parent.name}.{path.stem}"):
        monkeypatch.setitem(sys.modules, module, None)
    package = engine(name).package
    with pytest.raises(UserError, match=rf"^{package} cannot be imported .*: pip install {package}$"):
        engine(name)().load(FILES[name], {}, 1)


def test_each_board_takes_files_of_what_simulates_it() -> None:
    for simulator, board in ON_BOARDS.items():
        assert set(engine(board).formats) <= set(engine(simulator).formats)
    assert set(ON_BOARDS.values()) == set(FILES)
