"""The documentation is true: what it names is there, what it quotes is said, and the site is whole."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import msgspec
import pytest

from hybrid.commands.parsing import parser_of, read_words
from hybrid.commands.table import command_named
from hybrid.config import Recipe
from serving.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "serving/README.md"])
DOCS = sorted(ROOT.glob("docs/*.md"))
NAMED = re.compile(r"`([^`\s]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")
TOPS = {"hybrid", "serving", "tests", "benchmarks", "recipes", "examples", "docs"}
MOST_WORDS = 1_500
WITHOUT_LIMIT = {"api.md", "benchmarks.md"}
"""Pages that one looks things up in, and does not read."""
MOST_IMAGE_BYTES = 300_000


def places(page: Path) -> list[str]:
    """The files, folders and tests that a page names in backquotes, by their place in the checkout."""
    words = [word.rstrip(".,") for word in NAMED.findall(page.read_text(encoding="utf-8"))]
    return [word for word in words if "/" in word and word.split("/")[0] in TOPS and not set("<>*{}") & set(word)]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_file_folder_and_test_that_a_page_names_exists(page: Path) -> None:
    for place in places(page):
        path, _, name = place.partition("::")
        target = ROOT / path
        assert target.exists(), f"{page.name} names {path}"
        assert not path.endswith("/") or target.is_dir(), f"{page.name} calls {path} a folder"
        assert not name or f"def {name.partition('[')[0]}(" in target.read_text(encoding="utf-8"), (
            f"{page.name} names {name}"
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    links = [link for link, _ in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    for link in links:
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_a_page_that_names_a_missing_file_is_found_out(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("See `hybrid/no_such_file.py` and `tests/test_docs.py::test_none`, but not `a/b` or `hybrid/*.py`.")
    assert places(page) == ["hybrid/no_such_file.py", "tests/test_docs.py::test_none"]


@pytest.mark.parametrize("page", [page for page in DOCS if page.name not in WITHOUT_LIMIT], ids=lambda page: page.name)
def test_a_page_can_be_read_in_one_sitting(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").split()) <= MOST_WORDS


def test_every_page_is_in_the_contents_of_the_site() -> None:
    def pages_of(entries: list[Any]) -> Iterator[str]:
        for entry in entries:
            for target in entry.values():
                yield from [target] if isinstance(target, str) else pages_of(target)

    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    assert sorted(pages_of(nav)) == [page.name for page in DOCS]


class Page(HTMLParser):
    """What a page of the site links to, loads, and can be linked at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {given["id"] or ""} if "id" in given else set()
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        if tag in ("img", "script") and given.get("src"):
            self.loads.append(given["src"] or "")
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(given.get("href") or "")


def dead_links(site: Path) -> list[str]:
    """The links and anchors of a site that lead nowhere, and what it would load from another server."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}
    dead = []
    for path, page in pages.items():
        for url in [*page.links, *page.loads]:
            place, anchor = urldefrag(url)
            if re.match(r"[a-z]+:|//", place):
                dead += [f"{path.name} loads {url}"] if url in page.loads and not url.startswith("data:") else []
                continue
            target = (path.parent / unquote(place)).resolve() if place else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].ids):
                dead.append(f"{path.name} links to {url}")
    return dead


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_a_dead_link_or_a_request_elsewhere(tmp_path: Path) -> None:
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "hybrid").symlink_to(ROOT / "hybrid")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    site = (tmp_path / "site").resolve()
    assert len(list(site.glob("*.html"))) > len(DOCS)
    assert dead_links(site) == []
    assert "golden texts" in (site / "api.html").read_text(encoding="utf-8"), "the API is made from the docstrings"


def test_a_dead_link_a_dead_anchor_and_a_request_elsewhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top"></h1><a href="b.html"></a><a href="#top"></a><a href="#none"></a><a href="https://a.b/"></a>'
        '<img src="https://a.b/c.png">'
    )
    assert dead_links(tmp_path.resolve()) == [
        "a.html links to b.html",
        "a.html links to #none",
        "a.html loads https://a.b/c.png",
    ]


def spelled(node: ast.AST) -> str:
    """A string of the code as users read it, with … for what is put in when it runs; empty if it is no string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(spelled(part) or "…" for part in node.values)
    return ""


@cache
def messages() -> str:
    """Every string of the code, one a line."""
    files = [path for top in ("hybrid", "serving") for path in (ROOT / top).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(files)]
    strings = {
        spelled(node) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant | ast.JoinedStr)
    }
    return "\n".join(" ".join(string.split()) for string in sorted(strings))


def quoted_messages() -> list[str]:
    pages = ROOT.glob("docs/troubleshooting*.md")
    lines = "".join(page.read_text(encoding="utf-8") for page in sorted(pages)).splitlines()
    return [match[1] for line in lines if (match := re.match(r"\| `([^`]+)` \|", line))]


def test_every_message_that_troubleshooting_quotes_is_in_the_code() -> None:
    quoted = quoted_messages()
    assert len(quoted) > 50
    assert [message for message in quoted if message not in messages()] == []
    assert "no such message at all" not in messages()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


COMMAND_LINES = [
    (page.name, line)
    for page in PAGES
    for block in [*blocks(page, "bash"), *blocks(page, "console")]
    for line in re.sub(r"\\\n\s*", "", block).splitlines()
    if line.startswith("hybrid ") and not line.startswith("hybrid --")
]


@pytest.mark.parametrize(("page", "line"), COMMAND_LINES, ids=[" ".join(line.split()) for _, line in COMMAND_LINES])
def test_every_command_line_that_a_page_shows_is_understood(page: str, line: str) -> None:
    name, *words = shlex.split(re.split(r"[>&|]", line)[0], comments=True)[1:]
    command = command_named(name)
    assert command, page
    read_words(parser_of(command), words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`hybrid ([a-z]+)[^`]*`", page.read_text(encoding="utf-8"))
    assert [name for name in named if command_named(name) is None] == []


TOML = [(page.name, i, block) for page in DOCS for i, block in enumerate(blocks(page, "toml"))]


@pytest.mark.parametrize(("page", "i", "block"), TOML, ids=[f"{page}-{i}" for page, i, _ in TOML])
def test_every_setting_that_a_page_shows_exists(page: str, i: int, block: str) -> None:
    shown = tomllib.loads(block)
    recipe = {"name": "shown", **shown, "data": {"train": "rows.csv"} | shown.get("data", {})}
    refusals = []
    for kind, settings in ((Recipe, recipe), (Settings, shown)):
        try:
            msgspec.convert(settings, kind)
        except msgspec.ValidationError as refusal:
            refusals.append(str(refusal))
    assert len(refusals) < 2, refusals


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_headings_go_down_one_level_at_a_time(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    levels = [len(match) for match in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))


def test_the_images_are_small_and_all_of_them_are_shown() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for image in (ROOT / "docs/images").glob("*"):
        assert image.stat().st_size <= MOST_IMAGE_BYTES, image.name
        assert f"images/{image.name})" in text, f"{image.name} is on no page"
