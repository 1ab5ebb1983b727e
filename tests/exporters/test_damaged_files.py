"""A damaged model is read, or refused by one line."""

import random
import shutil
from pathlib import Path

import onnx
import pytest
from ai_edge_litert import schema_py_generated as tfl
from flatbuffers import Builder
from helpers import tiny
from helpers.memory import reading

from backends.conformance import networks
from backends.device.errors import UserError
from exporters.files import describe
from patches.twins import twin


@pytest.mark.parametrize("kind", ["cvimodel", "espdl", "onnx", "pte", "tflite"])
def test_a_mutated_model_is_one_line(tmp_path, kind):
    file = Path(shutil.copyfile(networks.file(kind), tmp_path / f"tiny.{kind}"))
    whole, refused = file.read_bytes(), 0
    for seed in range(150):
        mutated, chance = bytearray(whole), random.Random(seed)
        for _ in range(chance.choice([1, 2, 5])):
            at = chance.randrange(len(whole))
            mutated[at] = chance.choice([0, 127, 128, 255, mutated[at] ^ 1 << chance.randrange(8)])
        file.write_bytes(mutated[: len(whole) if seed % 10 else chance.randrange(len(whole))])
        try:
            describe(file)
        except UserError as error:
            refused += 1
            said = str(error)
            if not said.startswith(f"{file}: ") or "\n" in said:
                pytest.fail(said)
    assert refused > 30


def test_a_tensor_declared_with_a_shape_that_it_has_not_is_one_line(tmp_path):
    """onnx's checker and onnxruntime take it: the inference of shapes alone raises."""
    file = tiny.onnx_file(tmp_path / "tiny.onnx")
    model = onnx.load(file)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, [9]))
    onnx.save(model, file)
    with pytest.raises(onnx.shape_inference.InferenceError):
        onnx.shape_inference.infer_shapes(model)
    with pytest.raises(UserError) as raised:
        describe(file)
    assert str(raised.value).startswith(f"{file}: a damaged ONNX file (")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("padding", [2**17, 2**40])
def test_a_feature_map_of_a_million_rows_is_refused_before_a_runtime_makes_room_for_it(tmp_path, padding):
    model = onnx.load(tiny.onnx_file(tmp_path / "tiny.onnx"))
    (conv, *_) = (node for node in model.graph.node if node.op_type == "Conv")
    del conv.attribute[:]
    conv.attribute.append(onnx.helper.make_attribute("pads", [padding, 0, 0, 0]))
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "padded.onnx")
    with pytest.raises(UserError, match=r"padded\.onnx: .* has the shape .*: the file is damaged$"):
        describe(tmp_path / "padded.onnx")


class Once(tfl.TensorT):
    """A tensor that is written once, however often it is listed."""

    place: int | None = None

    def Pack(self, builder):
        if self.place is None:
            self.place = super().Pack(builder)
        return self.place


def test_a_tensor_that_is_listed_over_and_over_is_refused_unread(tmp_path):
    file = tiny.tflite_file(tmp_path / "tiny.tflite")
    model = tfl.ModelT.InitFromPackedBuf(file.read_bytes(), 0)
    tensor = Once()
    vars(tensor).update(vars(model.subgraphs[0].tensors[0]))
    model.subgraphs[0].tensors += [tensor] * 300_000
    builder = Builder(1 << 23)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    file.write_bytes(builder.Output())
    imports = "from ai_edge_litert import schema_py_generated\nfrom exporters.files import describe"
    grown, said = reading(imports, "describe(Path(sys.argv[1]))", file)
    assert said == f"{file}: a damaged TFLite file: lists more parts than it holds"
    assert grown < 50


@pytest.mark.parametrize("ends", ["inputs", "outputs"])
def test_a_twin_needs_an_image_in_and_a_vector_out(tmp_path, ends):
    file = tiny.tflite_file(tmp_path / "tiny.tflite")
    model = tfl.ModelT.InitFromPackedBuf(file.read_bytes(), 0)
    setattr(model.subgraphs[0], ends, [])
    builder = Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    file.write_bytes(builder.Output())
    with pytest.raises(UserError, match=str(file)):
        twin(file)
