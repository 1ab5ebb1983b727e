"""Generate the reference pages from the code when MkDocs builds the site."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import attacks_page
import cli_page
import runtimes_page
import suite_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {
    "reference/suite.md": suite_page.suite,
    "reference/rules.md": suite_page.rules,
    "reference/attacks.md": attacks_page.page,
    "reference/runtimes.md": runtimes_page.page,
    "reference/cli.md": cli_page.page,
}


ROOT = Path(__file__).parents[2]
HERE = "<!-- folders -->"
END = "<!-- /folders -->"


def on_page_markdown(markdown: str, **others: object) -> str:
    """Put the README's table of folders where a page asks for it."""
    if HERE not in markdown:
        return markdown
    table = (ROOT / "README.md").read_text().split(HERE)[1].split(END)[0]
    return markdown.replace(HERE, table)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add each generated page as if it lay among the written ones."""
    for uri, write in PAGES.items():
        files.append(File.generated(config, uri, content=write()))
    return files
