"""Every block of TOML on a page is a suite, a part of one, rules of the gate, or a cluster."""

import re
import tomllib
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.suites import QUICK

from backends.device.runtimes import check_target_options
from harness.config import Suite
from harness.gate.rules import Rules
from harness.run.deployments import Kubernetes, Slurm, Ssh
from patches import attacks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "pages").rglob("*.md"))]
BLOCK = re.compile(r"```toml[^\n]*\n(.*?)```", re.DOTALL)
CLUSTERS = (Slurm, Ssh, Kubernetes)
OURS_ALONE = ("sign_steps",)  # an attack that Extending adds


def blocks():
    for page in PAGES:
        for number, text in enumerate(BLOCK.findall(page.read_text())):
            if "[project" not in text:
                yield pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize("text", blocks())
def test_a_block_of_toml_is_valid(text: str):
    given = tomllib.loads(text)
    if {"compare", "limit"} & set(given):
        Rules.model_validate(given)
        return
    for cluster in CLUSTERS:
        if set(given) <= set(cluster.model_fields):
            cluster.model_validate(given)
            return
    around = {} if "schema" in given else tomllib.loads(QUICK)  # a whole suite has its own
    suite = Suite.model_validate(around | given)
    for table in suite.attack:
        if table.name not in OURS_ALONE:
            attacks.options(table.name, table.options)
    for target in suite.target:
        check_target_options(target.runtime, target.options)


def test_the_example_of_get_started_is_quoted_whole():
    suite = (ROOT / "docs" / "examples" / "own_network" / "suite.toml").read_text()
    assert suite in Path(ROOT / "docs" / "pages" / "get-started.md").read_text()
