"""The documentation is true: what it names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "serving/README.md"])
NAMED = re.compile(r"`([^`\s]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")
TOPS = {"hybrid", "serving", "tests", "benchmarks", "recipes", "examples", "docs"}


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
