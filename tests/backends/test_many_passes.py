"""A defence of many passes on a device: what it answers is what its file's runtime says of masked pixels."""

import numpy as np
import pytest
from helpers import tiny

from backends.answers import check_verdicts, read_answers
from backends.device.bundle import write_bundle
from backends.device.defences import patchcleanser
from backends.device.errors import UserError
from backends.device.runtimes import engine, prepare, real
from backends.hosts import Target, replay

WORD = "patchcleanser:5"
ORT = Target("ort", "onnxruntime")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Clean images and patched ones, undefended and behind the defence."""
    folder = tmp_path_factory.mktemp("many")
    file, stamps = tiny.onnx_file(folder / "tiny.onnx"), tiny.stamps()
    cases = {"none": None, "none-defended": None, "patched": stamps, "patched-defended": stamps}
    words = {name: WORD for name in cases if name.endswith("defended")}
    return write_bundle(folder / "bundle", tiny.artifact(file), file, tiny.pixels(), cases, words)


@pytest.fixture(scope="module")
def outcome(bundle, tmp_path_factory):
    limits = {"warmup": 1, "runs": 4, "seconds": 0, "defence": WORD}
    return replay(ORT, bundle.root, tmp_path_factory.mktemp("out"), latency=limits)


def test_the_answers_are_the_runtimes_own(bundle, outcome):
    assert not outcome.errors
    runtime = engine("onnxruntime")()
    runtime.load(bundle.file, {}, 1)

    def classify(pixels):
        return real(runtime.output, runtime.run(prepare(runtime.input, bundle.artifact.preproc(pixels), bundle.file)))

    for name in ("none-defended", "patched-defended"):
        found = read_answers(outcome.files[name], (tiny.N, None))
        images = np.concatenate(list(bundle.batches(name, tiny.N)))
        for i, image in enumerate(images):
            said = patchcleanser.answer(image, classify, 5)
            np.testing.assert_array_equal(found["logits"][i], said.logits)
            assert patchcleanser.VERDICTS[found["verdicts"][i]] == said.verdict
            assert found["passes"][i] == said.passes
            is_certified = name == "none-defended" and patchcleanser.certified(image, classify, 5)
            assert found["certified"][i] == is_certified, "only an image without a patch can be"


def test_a_latency_is_of_all_passes_and_of_what_prepares_them(outcome):
    assert outcome.latency.preprocessing == "included"


def test_undefended_cases_have_no_verdicts(outcome):
    assert set(read_answers(outcome.files["none"], (tiny.N, None))) <= {"logits", "integers"}


def test_a_device_that_gives_other_verdicts_than_the_defence_has_is_refused(tmp_path):
    logits = np.zeros((2, 3), np.float32)
    ways = {"verdicts": np.uint8([0, 2]), "passes": np.int32([36, 72]), "certified": np.array([True, False])}
    check_verdicts({"logits": logits, **ways}, WORD, tmp_path)
    check_verdicts({"logits": logits}, "jpeg:75", tmp_path)
    with pytest.raises(UserError, match="expected verdicts below 3, and 1 pass or more"):
        check_verdicts(ways | {"verdicts": np.uint8([0, 3])}, WORD, tmp_path)
    with pytest.raises(UserError, match="after no defence, expected no verdicts; certified, passes, verdicts is amiss"):
        check_verdicts(ways, "", tmp_path)
    with pytest.raises(UserError, match="expected certified, passes, verdicts; passes is amiss"):
        check_verdicts({name: ways[name] for name in ("verdicts", "certified")}, WORD, tmp_path)
