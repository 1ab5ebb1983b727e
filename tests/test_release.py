"""A release: the version is the same wherever it stands, and the changelog has a part for it."""

import re
import tomllib

import yaml
from helpers import ROOT


def test_a_version_is_one_in_the_project_the_citation_and_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == version
    assert len(set(headings)) == len(headings)


def test_the_workflows_try_the_wheel_on_every_python_that_the_project_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = [f"3.{minor}" for minor in range(11, 20) if minor < int(project["requires-python"].rpartition(".")[2])]
    for name in ("ci", "release"):
        workflow = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
        assert workflow["jobs"]["wheel"]["strategy"]["matrix"]["python"] == allowed
