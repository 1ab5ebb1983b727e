"""Surrogates as words: what suites name and results print reads back as the same."""

import pytest
from pydantic import BaseModel

from harness.config.values import SurrogateWords
from patches.surrogate import Surrogate

WORDS = {
    "float": Surrogate("float"),
    "float:net": Surrogate("float", of="net"),
    "fake_quant:w4a4": Surrogate("fake_quant", precision="w4a4"),
    "fake_quant:w4a32:net": Surrogate("fake_quant", of="net", precision="w4a32"),
    "fake_quant:net-tflite": Surrogate("fake_quant", of="net-tflite"),
    "qat:w4a4": Surrogate("qat", precision="w4a4"),
    "twin:net-onnx:builtin": Surrogate("twin", of="net-onnx", variant="builtin"),
    "device:net-onnx:ort": Surrogate("device", of="net-onnx", variant="ort"),
    "theirs:net": Surrogate("theirs", of="net"),
    "float with defence jpeg:75": Surrogate("float", defence="jpeg:75"),
    '["float", "qat:w4a4:net"]': Surrogate(
        "ensemble", members=(Surrogate("float"), Surrogate("qat", of="net", precision="w4a4"))
    ),
}


@pytest.mark.parametrize("words", WORDS)
def test_words_become_a_surrogate_and_back(words):
    assert Surrogate.parse(words) == WORDS[words]
    assert str(WORDS[words]) == words


def test_older_results_say_through():
    ensemble = '["float", "twin:net"]'
    for words in ("float", "twin:net-onnx:builtin", ensemble):
        assert str(Surrogate.parse(f"{words} through jpeg:75")) == f"{words} with defence jpeg:75"


def test_the_name_of_the_attacked_victim_is_left_out():
    ensemble = Surrogate.parse(["float:net", "twin:net", "qat:w4a4:other"])
    assert str(ensemble.without("net")) == '["float", "twin:net", "qat:w4a4:other"]', "a twin is of a file"


class Attack(BaseModel):
    surrogate: SurrogateWords


@pytest.mark.parametrize("words", ["float", "fake_quant:w4a4", ("float", "twin:net-onnx")])
def test_a_suite_dumps_the_words_that_it_read(words):
    assert Attack(surrogate=words).model_dump() == {"surrogate": words}


@pytest.mark.parametrize("words", [3, ["float"], [["float", "float"]], "float with defence jpeg:75"])
def test_what_is_no_surrogate_is_refused(words):
    with pytest.raises(ValueError, match=r"surrogate|expected"):
        Attack(surrogate=words)
