"""Check the links that MkDocs does not: those in README.md, and those in the finished site's HTML."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
SITE = ROOT / "out" / "site"


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors that it offers."""

    def __init__(self, text: str) -> None:
        """Parse the page."""
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the attributes that matter."""
        found = {name: value or "" for name, value in attrs}
        self.anchors.add(found.get("id", ""))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in ("img", "script", "iframe", "source") and "src" in found:
            self.loads.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(found["href"])


def main() -> int:
    """Print every fault; return their number."""
    faults = [*readme(), *site()]
    print("\n".join(faults) or f"links: all of README.md and {len(list(SITE.rglob('*.html')))} pages lead somewhere")
    return len(faults)


def readme() -> list[str]:
    """Relative links of the README that name no file."""
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    return [f"README.md: {link}" for link in links if is_local(link) and not (ROOT / path(link)).exists()]


def site() -> list[str]:
    """Links of the site that lead nowhere, and whatever it would load from another host."""
    pages = {file: Page(file.read_text()) for file in SITE.rglob("*.html") if file.name != "404.html"}
    faults = []
    for file, page in pages.items():
        name = file.relative_to(SITE)
        faults += [f"{name}: loads {url} from another host" for url in page.loads if not is_local(url)]
        for link in filter(is_local, page.links + page.loads):
            there = (file.parent / path(link)).resolve() if path(link) else file
            there = there / "index.html" if there.is_dir() else there
            anchor = urlsplit(link).fragment
            if not there.exists() or (anchor and there in pages and anchor not in pages[there].anchors):
                faults.append(f"{name}: {link}")
    return faults


def is_local(link: str) -> bool:
    """Whether a link stays within the repository or site."""
    return not urlsplit(link).scheme and not link.startswith("//")


def path(link: str) -> str:
    """A link without its query and anchor."""
    return unquote(urlsplit(link).path)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
