"""What the Dask operator of Kubernetes is given, held against the schema that it installs."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import ROOT
from helpers.command import environ, patchbench
from helpers.required import absent
from helpers.suites import write

from backends import environments
from backends.device.errors import UserError

pytestmark = pytest.mark.slow

PINS = ("dask-kubernetes==2026.3.0", "jsonschema==4.26.0")
SCHEMA = "dask_kubernetes/operator/deployment/helm/dask-kubernetes-operator/crds/daskcluster.yaml"
MANIFEST = """
import json
from harness.run import deployments
print(json.dumps(deployments.read("kubernetes:kubernetes.toml").manifest()))
"""
FAULTS = """
import json, sys
from jsonschema import Draft202012Validator
schema, document = json.load(sys.stdin)
print(json.dumps([fault.message for fault in Draft202012Validator(schema).iter_errors(document)]))
"""
Faults = Callable[[dict[str, Any]], list[str]]


@pytest.fixture(scope="module")
def packages() -> Path:
    try:
        environments.make_environment(PINS, lambda word: None)
    except UserError as error:
        absent("environments", str(error))
    return environments.packages(PINS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has the file of the page on clusters."""
    page = (ROOT / "docs" / "pages" / "how-to" / "cluster.md").read_text()
    (text,) = re.findall(r'```toml title="kubernetes.toml"\n(.*?)```', page, re.DOTALL)
    made = tmp_path_factory.mktemp("kubernetes")
    (made / "kubernetes.toml").write_text(text)
    return made


@pytest.fixture(scope="module")
def manifest(packages: Path, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", MANIFEST]
    said = subprocess.check_output(command, cwd=folder, env=environ(PYTHONPATH=str(packages)), text=True)
    found: dict[str, Any] = json.loads(said)
    return found


@pytest.fixture(scope="module")
def faults(packages: Path) -> Faults:
    """Gives what is wrong with a `DaskCluster`: keys that Kubernetes would drop are wrong, too."""
    (version,) = yaml.load((packages / SCHEMA).read_text(), yaml.CSafeLoader)["spec"]["versions"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"] |= {"apiVersion": {"const": "kubernetes.dask.org/v1"}, "kind": {"const": "DaskCluster"}}
    schema["properties"] |= {"metadata": {"required": ["name"]}}

    def found(document: dict[str, Any]) -> list[str]:
        command, given = [sys.executable, "-c", FAULTS], json.dumps([schema, document])
        said: list[str] = json.loads(
            subprocess.check_output(command, input=given, env=environ(PYTHONPATH=str(packages)), text=True)
        )
        return said

    return found


def closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(one) for name, one in schema.items()}
    open_ = schema.get("x-kubernetes-preserve-unknown-fields")
    return made | ({"additionalProperties": False} if isinstance(schema.get("properties"), dict) and not open_ else {})


def test_the_operators_schema_takes_the_manifest(manifest: dict[str, Any], faults: Faults) -> None:
    assert faults(manifest) == []
    manifest["spec"]["worker"]["spec"]["volumes"][0]["persistentVolumeClaims"] = {}
    (fault,) = faults(manifest)
    assert "persistentVolumeClaims" in fault


def test_pods_start_dask_whatever_their_image_starts_and_workers_have_the_shared_folders(
    manifest: dict[str, Any],
) -> None:
    pods = {role: manifest["spec"][role]["spec"] for role in ("scheduler", "worker")}
    for role, pod in pods.items():
        (container,) = pod["containers"]
        assert container["command"] == ["python3", "-m"]
        assert container["args"][0].endswith(role)
        assert find_spec(container["args"][0])
    (worker,) = pods["worker"]["containers"]
    claims = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in pods["worker"]["volumes"]}
    assert {claims[mount["name"]]: mount["mountPath"] for mount in worker["volumeMounts"]} == {"home": "/home/me"}
    assert manifest["spec"]["worker"]["replicas"] == 8


def test_without_a_kubernetes_the_error_is_one_line(packages: Path, folder: Path) -> None:
    suite = write(folder)
    options = ("--cluster", "kubernetes:kubernetes.toml")
    home = {"HOME": str(folder), "KUBECONFIG": str(folder / "none")}
    done = patchbench("run", suite, *options, cwd=folder, PYTHONPATH=str(packages), **home)
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert "--cluster kubernetes:kubernetes.toml: " in said
