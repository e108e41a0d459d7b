#!/usr/bin/env python3
"""Makes a book of what docs/SUMMARY.md names, in target/book, and looks whether its links lead somewhere. Needs mdbook.

usage: book.py [MDBOOK]
"""

import html.parser
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")


def chapters():
    summary = ROOT / "docs" / "SUMMARY.md"
    return [(summary.parent / target).resolve() for target in LINK.findall(summary.read_text())]


def lay_out(pages, stage):
    """The repository as far as the book needs it: its pages, and files that they point to."""
    shutil.rmtree(stage, ignore_errors=True)
    needed = set(pages)
    for page in pages:
        there = ((page.parent / target).resolve() for target in LINK.findall(page.read_text()) if "://" not in target)
        needed.update(file for file in there if file.is_file())
    for file in needed:
        copy = stage / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    shutil.copy(ROOT / "docs" / "book.toml", stage)
    named = lambda target: os.path.relpath((ROOT / "docs" / target[1]).resolve(), ROOT)
    summary = (ROOT / "docs" / "SUMMARY.md").read_text()
    (stage / "SUMMARY.md").write_text(LINK.sub(lambda target: f"]({named(target)})", summary))


class Page(html.parser.HTMLParser):
    """What a page has and points to."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.targets = set(), []
        self.feed(text)

    def handle_starttag(self, _, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            if name in ("href", "src") and value:
                self.targets.append(value)


def broken(book):
    pages = {file: Page(file.read_text()) for file in book.rglob("*.html")}
    for file, page in pages.items():
        for target in page.targets:
            link = urllib.parse.urlparse(target)
            if link.scheme or link.netloc or file.name in ("404.html", "toc.html"):
                continue
            there = (file.parent / urllib.parse.unquote(link.path)).resolve() if link.path else file
            if not there.is_file() or link.fragment and there in pages and urllib.parse.unquote(link.fragment) not in pages[there].ids:
                yield f"{file.relative_to(book)}: {target}"


def main(mdbook="mdbook"):
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    stage, book = target / "book-src", target / "book"
    shutil.rmtree(book, ignore_errors=True)
    lay_out(chapters(), stage)
    subprocess.run([mdbook, "build", stage], check=True)
    if wrong := sorted(set(broken(book))):
        sys.exit("book.py: links that lead nowhere:\n" + "\n".join(wrong))
    print(f"book.py: {book}/index.html")


if __name__ == "__main__":
    main(*sys.argv[1:])
