import pickle
import zipfile

import pytest
import torch
from helpers.flips import damaged
from helpers.memory import reading

from backends.device.reading import DamagedFile
from harness.networks.checkpoints import read_checkpoint
from harness.networks.weights import read_weights


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.pt"


def state():
    return {"a": torch.arange(60.0).reshape(4, 15), "b": torch.tensor(3), "inner": {"epochs": 2, "rates": [0.5]}}


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_comes_back(file, zipped):
    torch.save(state(), file, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(file)
    assert torch.equal(found["a"], state()["a"])
    assert found["inner"] == state()["inner"]


def test_a_flipped_bit_is_found_or_without_effect(file):
    """Torch itself reads half of them as other numbers."""
    torch.save(state(), file)
    whole, found = file.read_bytes(), 0
    for seed in range(300):
        file.write_bytes(damaged(whole, seed))
        try:
            again = read_checkpoint(file)
        except DamagedFile:
            found += 1
        else:
            assert again.keys() == state().keys()
            assert torch.equal(again["a"], state()["a"])
            assert torch.equal(again["b"], state()["b"])
            assert again["inner"] == state()["inner"]
    assert found > 150


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "expected a state dict, got Tensor"),
        ([torch.zeros(3)], "expected a state dict, got list"),
        ({"a": torch.zeros(1).expand(10**12)}, "expected dense tensors"),
        ({"a": torch.zeros(3).to_sparse()}, "expected dense tensors"),
        ({"a": torch.zeros(3, device="meta")}, "expected dense tensors"),
        ({"a": {"b": [torch.zeros(3).to_sparse()]}}, "expected dense tensors"),
        ({"a": pytest.approx(3)}, "expected a state dict saved by torch.save"),
    ],
)
def test_what_is_no_checkpoint_is_refused(file, content, message):
    torch.save(content, file)
    with pytest.raises(DamagedFile, match=message) as caught:
        read_checkpoint(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x80\4N.", pickle.dumps([1]), bytes(100)])
def test_other_bytes_are_refused(file, content):
    file.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"weights\.pt: expected a state dict"):
        read_checkpoint(file)


@pytest.mark.parametrize("content", [{}, {1: torch.zeros(1)}, {"a": 1}, {"state_dict": {"a": torch.zeros(1), "b": []}}])
def test_weights_are_tensors_by_name(file, content):
    torch.save(content, file)
    with pytest.raises(DamagedFile, match="tensors by name"):
        read_weights(file)


def test_an_archive_that_unpacks_to_more_than_itself_is_refused_unread(file):
    torch.save({"a": torch.zeros(30_000_000)}, file)
    packed = file.with_name("packed.pt")
    with zipfile.ZipFile(file) as whole:
        archive = zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        with archive:
            for name in whole.namelist():
                archive.writestr(name, whole.read(name))
    assert packed.stat().st_size < 1_000_000
    call = "read_checkpoint(Path(sys.argv[1]))"
    grown, said = reading("from harness.networks.checkpoints import read_checkpoint", call, packed)
    assert said == f"{packed}: expected an archive without compression, as torch.save writes it"
    assert grown < 20
