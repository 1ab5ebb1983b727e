"""Serve ``benchmarks/results`` below ``findings/results``, and within pages: its files stay where they are."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
HERE = re.compile(r"<!-- results: (\S+) -->")
SHOWN = (".md", ".svg", ".png", ".csv", ".json")


def on_page_markdown(markdown: str, **others: object) -> str:
    """Put a file of results where a page asks for it; a missing one ends the build."""
    return HERE.sub(lambda found: _text(found[1]), markdown)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every result file to the site; its pages are reached by links, not by the navigation."""
    for path in sorted(RESULTS.rglob("*")):
        if path.suffix in SHOWN:
            uri = f"findings/results/{path.relative_to(RESULTS).as_posix()}"
            file = File.generated(config, uri, abs_src_path=str(path))
            file.inclusion = InclusionLevel.NOT_IN_NAV
            files.append(file)
    return files


def _text(name: str) -> str:
    file = RESULTS / name
    if not file.is_file():
        raise PluginError(f"a page asks for the results in {file}, which does not exist")
    return file.read_text()
