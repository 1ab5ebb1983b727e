"""Serve ``benchmarks/results`` below ``findings/results``: its pages, figures and tables stay where they are."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SHOWN = (".md", ".svg", ".png", ".csv", ".json")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every result file to the site; its pages are reached by links, not by the navigation."""
    for path in sorted(RESULTS.rglob("*")):
        if path.suffix in SHOWN:
            uri = f"findings/results/{path.relative_to(RESULTS).as_posix()}"
            file = File.generated(config, uri, abs_src_path=str(path))
            file.inclusion = InclusionLevel.NOT_IN_NAV
            files.append(file)
    return files
