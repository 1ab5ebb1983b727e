"""The lists of ids that a run keeps: what they say, and that no image is in two of them."""

import pytest

from backends.device.errors import UserError
from harness.data.splits import describe, digest

GOOD = {"calibration": ["a"], "craft": ["b", "c"], "select": [], "evaluate": ["d", "e"], "train": ["a", "b", "c", "z"]}


def test_the_lists_are_kept_with_their_hash() -> None:
    kept = describe(GOOD)
    assert kept["schema"] == 1
    assert {name: part["ids"] for name, part in kept["splits"].items()} == {
        k: v for k, v in GOOD.items() if k != "train"
    }
    assert kept["splits"]["craft"] == {"n": 2, "sha256": digest(["b", "c"]), "ids": ["b", "c"]}
    assert digest(["b", "c"]) != digest(["c", "b"])


def test_patches_for_each_image_are_made_on_the_very_images_that_are_counted() -> None:
    assert describe(GOOD)["made_on_evaluate"] == []
    assert describe(GOOD, {"q": ["d", "e"], "p": ["d", "e"]})["made_on_evaluate"] == ["p", "q"]
    for wrong in (["d"], ["e", "d"], ["b", "c"]):
        with pytest.raises(UserError, match="patch p: expected one patch for each of the 2 evaluation images"):
            describe(GOOD, {"p": wrong})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"evaluate": ["d", "c"]},
            r"splits craft and evaluate: expected disjoint images, got 1 in both, the first 'c'",
        ),
        ({"calibration": ["b", "c"]}, "splits calibration and craft"),
        ({"train": ["a", "d"]}, "splits train and evaluate"),
        ({"evaluate": ["d", "d"]}, "split evaluate: expected each image once"),
    ],
)
def test_an_overlap_is_an_error(change: dict[str, list[str]], says: str) -> None:
    with pytest.raises(UserError, match=says):
        describe(GOOD | change)
