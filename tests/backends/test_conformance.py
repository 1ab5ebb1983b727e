"""Every target, against the suite that is shipped; and the suite, against runtimes with a defect each."""

import sys

import pytest
from helpers import tiny, toolchains
from helpers.board import running
from helpers.cpu import exact_sums
from helpers.required import absent

from backends import licences
from backends.conformance import __main__, conform, networks
from backends.conformance.checks import CHECKS, OF_RUNTIME
from backends.device.errors import UserError
from backends.device.toolchains import TOOLCHAINS
from backends.hosts import Target, prepare, ssh

# A target as the command line takes it, and what PATCHBENCH_REQUIRE calls what it needs; a new one is a line here.
# Those of this machine are packages that we pin: they need nothing. The first line of a host has all checks, the others
# the runtime's alone.
TARGETS = [
    ("onnxruntime", ""),
    ("onnxruntime,optimization=disabled,threads=2", ""),
    ("litert", ""),
    ("litert,kernels=builtin", ""),
    ("litert,kernels=reference", ""),
    ("reference", ""),
    ("tflite_runtime", "environments"),
    ("tensorflow", "environments"),
    ("tflite_micro", "environments"),
    ("openvino", "environments"),
    ("executorch", "executorch"),
    ("tosa", "environments"),
    ("qnn", "environments"),
    ("tpu_mlir", "tpu-mlir"),
    ("rknn", "rknn-toolkit2"),
    ("nncase", "nncase"),
    ("esp_ppq", "esp-ppq"),
    ("onnxruntime,version=1.23.2", "environments"),
    ("litert,host=qemu,arch=aarch64,cpu=cortex-a53", "qemu"),
    ("onnxruntime,host=qemu,arch=aarch64,cpu=neoverse-n1", "qemu"),
    ("onnxruntime,host=qemu,arch=x86_64,cpu=Haswell", "qemu"),
    ("litert,kernels=builtin,host=qemu,arch=aarch64,cpu=max", "qemu"),
    ("tflite_runtime,host=qemu,arch=armv7l", "qemu"),
    ("litert,host=docker,arch=x86_64", "docker"),
    ("onnxruntime,host=docker,arch=aarch64", "docker"),
    ("litert,host=ssh,address=board", "ssh"),
]


FIRST = {(target.host, target.arch): text for text, _ in reversed(TARGETS) for target in [__main__.parse(text)]}


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    with running(tmp_path_factory.mktemp("board")) as board:
        yield board


def marked(text, needs):
    hosts = [getattr(pytest.mark, needs)] if needs in ("qemu", "docker", "ssh") else []
    plain = not needs and "," not in text and text != "onnxruntime"  # a few seconds each
    marks = hosts if plain else [*hosts, pytest.mark.slow]
    return pytest.param(text, needs, marks=[*marks, exact_sums] if text == "openvino" else marks)


@pytest.mark.parametrize(("text", "needs"), [marked(*row) for row in TARGETS], ids=[text for text, _ in TARGETS])
def test_a_target_passes(text, needs, request, monkeypatch):
    if needs == "ssh":
        monkeypatch.setenv("PATH", f"{request.getfixturevalue('board').bin}:/usr/local/bin:/usr/bin:/bin")
        ssh._first_description.cache_clear()
    target = __main__.parse(text)
    monkeypatch.setenv(licences.VARIABLE, " ".join(licences.LICENCES))
    for toolchain in TOOLCHAINS:
        if needs == toolchain.package:
            toolchains.require(toolchain)
    if needs:
        try:
            prepare(target)
        except UserError as error:
            absent(needs, str(error))
    checks = list(CHECKS if text in FIRST.values() else OF_RUNTIME)
    verdicts = list(conform(target, checks))
    assert [v for v in verdicts if v.fault] == []
    assert [v.check for v in verdicts] == checks


# The suite finds what it is for: a runtime of a third party, with a defect each, and the checks that must fail.
RUNTIME = """
import sys, types
import numpy as np
from backends.device.runtimes import litert

class Engine(litert.Engine):
    package = "numpy"
    count = 0

    def load(self, path, options, threads):
        super().load(path, {{k: v for k, v in options.items() if k in KNOWN}} if KNOWN else options, threads)
        {load}

    def run(self, x):
        self.count += 1
        raw = super().run(x)
        {run}
        return raw

KNOWN = {known}
"""
LOOKS = [*OF_RUNTIME][:-1]  # all but the session's, which holds what these do once more
DEFECTS = {
    "off by a step": ({"run": "raw = (raw.clip(-127) - 1).astype(raw.dtype)"}, ["logits equal"]),
    "wrong scale": (
        {"load": "self.output = self.output._replace(scale=0.5)"},
        ["logits equal", "integers come with them"],
    ),
    "moody": (
        {"run": "raw[:, 0] = np.random.randint(-9, 9)"},
        ["logits equal", "the same twice", "batches", "a defence"],
    ),
    "knows batches": ({"run": "raw = raw if len(x) < 3 else raw[::-1]"}, ["batches"]),
    "writes into its input": ({"run": "x[:] = 0"}, [*LOOKS[:8], "pixels that are not those"]),
    "imports torch": ({"load": "sys.modules['torch'] = types.ModuleType('torch')"}, ["the device loads nothing"]),
    "says nothing": ({"load": "self._info = {'version': ''}"}, ["it says what is in force"]),
    "takes any option": ({"known": ["kernels"]}, ["an unknown option"]),
    "takes any shape": (
        {"load": "self.input = self.input._replace(shape=(None,) * 4)", "run": ""},
        ["images of another shape"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_fails_its_check(tmp_path, monkeypatch, defect):
    changes, expected = DEFECTS[defect]
    info = tmp_path / "site/defective-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: defective\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[patchbench.runtimes]\ndefective = defective:Engine\n")
    code = RUNTIME.format(**{"load": "pass", "run": "pass", "known": "None"} | changes)
    (tmp_path / "site/defective.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "defective", raising=False)
    failed = [v.check for v in conform(Target("t", "defective"), LOOKS) if v.fault]
    assert len(failed) == len(expected)
    assert all(check.startswith(start) for check, start in zip(failed, expected, strict=True)), failed


def test_the_files_are_those_that_the_constants_make(tmp_path):
    assert networks.file("onnx").read_bytes() == tiny.onnx_file(tmp_path / "tiny.onnx").read_bytes()
    assert networks.file("tflite").read_bytes() == tiny.tflite_file(tmp_path / "tiny.tflite").read_bytes()
    assert networks.file("qdq.onnx").read_bytes() == tiny.qdq_file(tmp_path / "tiny.qdq.onnx").read_bytes()


def test_the_command_line_reads_targets(tmp_path):
    text = "litert,kernels=builtin,host=qemu,arch=aarch64,cpu=max,threads=2,time_limit=5,size=3"
    options = {"kernels": "builtin", "size": 3}
    assert __main__.parse(text) == Target(
        text, "litert", host="qemu", options=options, threads=2, arch="aarch64", cpu="max", time_limit=5.0
    )
    suite = tmp_path / "suite.toml"
    suite.write_text('[[target]]\nname = "a"\nruntime = "litert"\n[[target]]\nname = "b"\nruntime = "reference"\n')
    assert __main__.of_suite(suite, []) == [Target("a", "litert"), Target("b", "reference")]
    assert __main__.of_suite(suite, ["b"]) == [Target("b", "reference")]
    for wrong in ("litert,kernels", "litert,threads=two"):
        with pytest.raises(UserError, match=wrong):
            __main__.parse(wrong)
    with pytest.raises(UserError, match="no target 'c'; there are a, b"):
        __main__.of_suite(suite, ["c"])


@pytest.mark.slow
def test_the_exit_code_tells(capsys):
    assert __main__.main(["abacus"]) == 1
    assert "FAIL  it can run here" in capsys.readouterr().out
    assert __main__.main(["litert"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == ["litert", *(f"  ok    {check}" for check in CHECKS)]
