"""A target beside a board: a real sshd on loopback, with the same kernels and with others."""

from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from helpers import board as boards
from helpers.brought import write_suite
from helpers.faraway import use
from rich.console import Console

from backends.device.errors import UserError
from harness.cli.board import print_compared
from harness.config import read_suite
from harness.results.run_directory import read_run
from harness.run.on_board import Compared, beside, compare
from harness.run.run import run_suite

QUIET = Console(quiet=True)
GAP = 'name = "gap"\nsurrogate = "twin:resnet8"\ntarget_classes = [3]\noptions = { steps = 2 }\n'
REFERENCE = 'name = "one"\nruntime = "litert"\noptions = { kernels = "reference" }\n'


def suite(folder: Path, target: str = 'name = "one"\nruntime = "litert"\n') -> Path:
    path = write_suite(folder)
    text = path.read_text().replace('name = "noise"\n', GAP)
    path.write_text(text[: text.index("[[target]]")] + f"[[target]]\n{target}")
    return path


def replayed(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("out/brought/store/replay/*/ran.json")}


def test_a_board_takes_the_settings_of_its_target(tmp_path: Path) -> None:
    whole = read_suite(suite(tmp_path, REFERENCE + "batch = 4\nthreads = 2\n"))
    one, board = beside(whole, "one", "pi@board").target
    assert one == whole.target[0]
    assert (board.name, board.host, board.address) == ("one-board", "ssh", "pi@board")
    assert (board.runtime, board.options, board.batch, board.threads) == ("litert", {"kernels": "reference"}, 4, 2)
    _, board = beside(whole, "one", "pi@board", "tflite_runtime").target
    assert (board.runtime, board.options) == ("tflite_runtime", {})


@pytest.mark.parametrize(
    ("target", "address", "message"),
    [
        ("on", "pi@board", "brought has no target 'on'; did you mean 'one'?"),
        ("one", "-oProxyCommand=x", "address '-oProxyCommand=x': expected user@machine"),
    ],
)
def test_a_mistake_is_a_line(tmp_path: Path, target: str, address: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        compare(suite(tmp_path), tmp_path, target, address, console=QUIET)
    assert message in str(error.value)


@pytest.mark.ssh
def test_a_board_that_nobody_reaches_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"pi@no-such-board.invalid: cannot be compared with one: ssh: .*no-such-board"):
        compare(suite(tmp_path), tmp_path, "one", "pi@no-such-board.invalid", console=QUIET)
    assert not list(tmp_path.glob("out/*/store/artifact/*"))


def test_a_machine_without_ssh_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"with one: host ssh needs the program ssh: apt-get install openssh-client"):
        compare(suite(tmp_path), tmp_path, "one", "pi@board", console=QUIET)


def test_nothing_compared_is_no_verdict() -> None:
    assert printed(Compared(("one", "one-board"), (), (), (), Path("report.html"))).strip() == "nothing was compared"


@pytest.mark.slow
@pytest.mark.ssh
def test_a_board_is_compared_with_what_a_run_has_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_suite(suite(tmp_path), tmp_path, None, console=QUIET)
    before = replayed(tmp_path)
    with boards.running(tmp_path / "b") as board:
        use(board, monkeypatch)
        found = compare(tmp_path / "suite.toml", tmp_path, "one", "board", console=QUIET)
    assert len(replayed(tmp_path) - before) == len(before)  # the board's
    assert [(one.images, one.predictions_differ, one.values_differ) for one in found.agreement] == [
        ("clean", 0.0, 0.0),
        ("patched", 0.0, 0.0),
    ]
    assert {pair.rates[0] - pair.rates[1] for pair in found.success} == {0.0}
    assert "resnet8 │ patched" in printed(found)


@pytest.mark.slow
@pytest.mark.ssh
def test_other_kernels_on_the_board_differ_as_they_do_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    both = suite(tmp_path, REFERENCE + '[[target]]\nname = "here"\nruntime = "litert"\n')
    run_suite(both, tmp_path, tmp_path / "here", console=QUIET)
    expected = read_run(tmp_path / "here").agreement
    with boards.running(tmp_path / "b") as board:
        use(board, monkeypatch)
        found = compare(both, tmp_path, "one", "board", runtime="litert", console=QUIET)
    assert [one.model_copy(update={"b": "here"}) for one in found.agreement] == list(expected)
    assert max(one.values_differ for one in expected) > 0
    table = pd.read_parquet(found.report.parent / "records.parquet").query("defence == ''")
    clean, gap = (
        table[table["attack"] == name].pivot(index="image", columns="target", values="pred") for name in ("none", "gap")
    )
    labels = table.groupby("image")["label"].first()
    both_right = clean[["one", "one-board"]].eq(labels, axis=0).all(axis=1) & (labels != 3)
    pair = next(pair for pair in found.success if "after" not in pair.attack)
    assert pair.n == both_right.sum()
    assert pair.rates == tuple(gap.loc[both_right, name].eq(3).mean() for name in ("one", "one-board"))


def printed(found: Compared) -> str:
    file = StringIO()
    print_compared(found, Console(width=200, file=file))
    return file.getvalue()
