"""Serve ``benchmarks/results`` below ``findings/results``, and within pages: its files stay where they are."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
HERE = re.compile(r"<!-- results: (\S+) -->")
SHOWN = (".md", ".svg", ".png", ".csv", ".json")


def on_page_markdown(markdown: str, **others: object) -> str:
    """Put a file of results where a page asks for it; before it was ever made, nothing."""
    files = {name: RESULTS / name for name in HERE.findall(markdown)}
    return HERE.sub(lambda found: files[found[1]].read_text() if files[found[1]].is_file() else "", markdown)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every result file to the site; its pages are reached by links, not by the navigation."""
    for path in sorted(RESULTS.rglob("*")):
        if path.suffix in SHOWN:
            uri = f"findings/results/{path.relative_to(RESULTS).as_posix()}"
            file = File.generated(config, uri, abs_src_path=str(path))
            file.inclusion = InclusionLevel.NOT_IN_NAV
            files.append(file)
    return files
