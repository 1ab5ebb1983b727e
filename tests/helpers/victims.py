"""Prepare a victim in a folder."""

from harness import config
from harness.networks import victims


def prepared(tmp_path, size=(32, 32), classes=10, images=None, data_dir="tmp_path", **keys):
    table = config.VictimTable(**{"name": "v", "model": "resnet8"} | keys)
    return victims.prepare(
        table,
        data_dir=tmp_path if data_dir == "tmp_path" else data_dir,
        images=images,
        classes=classes,
        size=size,
        folder=tmp_path / "victim",
        cache=tmp_path / "cache",
        checkpoint=tmp_path / "checkpoint.pt",
    )
