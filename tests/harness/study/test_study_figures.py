"""Figures drawn from the tables of analyses, as their CSVs have them."""

import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from backends.device.artifact import QuantSpec
from harness.study import gradients, saturation, strength
from harness.study.lib import labels
from harness.study.lib.tables import with_interval


def test_a_calibration_is_called_by_the_constant_that_it_has():
    assert labels.calibration(QuantSpec(percentile=99.0)) == "minmax"
    assert labels.calibration(QuantSpec(calibration="percentile", percentile=99.0)) == "percentile 99"
    assert labels.calibration(QuantSpec(calibration="moving_average")) == "moving average 0.95"


def saturations():
    rows = []
    for i, calibration in enumerate(("minmax", "entropy", "moving average 0.95", "percentile 99")):
        for patch in ("", "p", "q"):
            about = {"victim": "net", "artifact": f"net-{i}", "format": "tflite", "precision": "w8a8", "images": 100}
            about |= {"calibration": calibration, "patch": patch}
            for depth, layer in enumerate(("relu", "linear", saturation.ALL)):
                share = 0.01 * i + 0.001 * (patch == "q")
                row = about | {"layer": layer, "depth": depth, "share": share, "share_low": 0, "share_high": 0.03}
                if layer == saturation.ALL and patch:
                    row |= {"target": "litert", "simulated": False, "success": 0.4 - 0.1 * i, "low": 0.1, "high": 0.6}
                    row |= {"n": 90, "relative_success": 1 - 0.2 * i - 0.01 * (patch == "q")}
                rows.append(row)
    return pd.DataFrame(rows)


def strengths():
    rows = []
    for kind, levels, clip in (("grid", 256, 1.0), ("grid", 256, 0.5), ("grid", 16, 0.5), ("file", np.nan, 0.7)):
        for patch in ("p", strength.ALL):
            row = {"victim": "net", "kind": kind, "levels": levels, "clip": clip, "patch": patch, "n": 90}
            row |= {"n_clean": 100, "calibration": "minmax" if kind == "file" else np.nan}
            row |= {f"{rate}{end}": 0.5 for rate in ("success", "clean_accuracy") for end in ("", "_low", "_high")}
            rows.append(row)
    return pd.DataFrame(rows)


def alignments():
    rows = []
    kinds = ((gradients.FLOAT, "fp32"), (gradients.SIMULATED, "w4a4"), (gradients.TWIN, "w8a8"))
    for i, (kind, precision) in enumerate(kinds):
        for patch in ("p", "q"):
            for region in gradients.REGIONS:
                row = {"victim": "net", "name": f"net-{i}", "kind": kind, "precision": precision, "patch": patch}
                row |= {"region": region, "n": 80, "transfer": 1 - 0.1 * i + 0.01 * (patch == "q")}
                row |= dict.fromkeys(with_interval(*gradients.MEASURES), 0.9 - 0.2 * i - 0.01 * (patch == "q"))
                rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("module", "table", "says"),
    [
        (
            saturation,
            saturations(),
            ["over 90 images; shares are over 100. Spearman's rho", ": -1.00 [", "over 2 patches"],
        ),
        (strength, strengths(), ["1 patch made on float", "90 images each", "100 images", "INT8 files"]),
        (gradients, alignments(), ["80 images per patch, 2 patches", "Pearson's r 0.99"]),
    ],
)
def test_figures_can_be_drawn_from_the_csv_and_say_how_many(tmp_path, module, table, says):
    table.to_csv(tmp_path / "table.csv", index=False)
    figures = module.draw(pd.read_csv(tmp_path / "table.csv"))
    captions = " ".join(figure.caption for figure in figures)
    for words in says:
        assert words in captions
    for figure in figures:
        root = ET.fromstring(str(figure.svg))
        assert root.tag.endswith("svg")
        assert len(list(root.iter())) > 50
