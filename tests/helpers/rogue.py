"""An attack of a user's own that does, when it is imported, what it should not."""

from pathlib import Path

from helpers.command import environ
from helpers.suites import QUICK, write


def rogue_attack(folder: Path, code: str) -> tuple[Path, dict[str, str]]:
    """A suite that names the attack ``rogue``, and the environment in which that is the given code."""
    facts = folder / "site" / "rogue-1.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: rogue\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[patchbench.attacks]\nrogue = rogue:craft\n")
    (folder / "site" / "rogue.py").write_text(code)
    suite = QUICK.replace('"gap"', '"rogue"').replace("{ steps = 3 }", "{}")
    return write(folder, suite), environ(PYTHONPATH=str(folder / "site"))
