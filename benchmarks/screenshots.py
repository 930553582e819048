"""The pictures of the documentation, taken in headless Chromium of a finished run: its report, its service, the site.

`make screenshots RUN=runs/sentiment/embedded` writes them to `docs/images/`.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

PROJECT = Path(__file__).resolve().parent.parent
IMAGES = PROJECT / "docs" / "images"
TEXT = "Stale bread and cold soup, but the waiter was lovely."
WIDTH, HEIGHT = 1280, 720
MOST_BYTES = 300_000


@contextmanager
def service(bundle: Path, folder: Path) -> Iterator[str]:
    """A service of the bundle on a free port; yields its URL."""
    # The review store of the pictures is no matter of the bundle's folder.
    copy = shutil.copytree(bundle, folder / "bundle")
    command = [sys.executable, "-m", "hybrid", "serve", str(copy), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(line.split()[-1] for line in process.stdout if line.startswith("ready in "))
        finally:
            process.terminate()


def report(page: Page, run: Path) -> None:
    page.goto((run / "report.html").resolve().as_uri())


def service_page(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_text("ready", exact=True).wait_for()
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.get_by_role("button", name="Classify", exact=True).click()
    page.locator("#answer :text('%')").first.wait_for()
    page.mouse.move(0, 0)


def site(page: Page, folder: Path) -> None:
    shutil.copy(PROJECT / "zensical.toml", folder)
    shutil.copytree(PROJECT / "docs", folder / "docs")
    (folder / "hybrid").symlink_to(PROJECT / "hybrid")
    subprocess.run([sys.executable, "-m", "zensical", "build", "--clean"], cwd=folder, check=True, capture_output=True)
    page.goto((folder / "site" / "index.html").as_uri())
    page.locator("h1").wait_for()


def save(page: Page, name: str) -> None:
    path = IMAGES / name
    page.screenshot(path=str(path), animations="disabled")
    size = path.stat().st_size
    if size > MOST_BYTES:
        sys.exit(f"{path}: {size} bytes; expected at most {MOST_BYTES}")
    print(f"{path.relative_to(PROJECT)}  {size // 1000} kB")


def main() -> None:
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/sentiment/embedded")
    if not (run / "report.html").is_file():
        sys.exit(f"{run}: no finished run; make one with 'make sentiment', or name one with RUN=...")
    chromium = shutil.which("chromium") or sys.exit("no chromium on this machine; on Debian: apt-get install chromium")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        report(page, run)
        save(page, "report.png")
        with service(run / "bundle", Path(scratch)) as url:
            service_page(page, url)
            save(page, "service.png")
        site(page, Path(scratch))
        save(page, "site.png")
        browser.close()


if __name__ == "__main__":
    main()
