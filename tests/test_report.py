"""The page and the model card: their figures are the summary's, and no row of data can act on the page."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from hybrid.files.table import read_rows, write_json, write_rows
from hybrid.pipeline.ablation import served_variant
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.progress import Screen
from hybrid.recipe_files.read import read_recipe
from hybrid.report import write_outcome
from hybrid.report.console_summary import closing_lines
from hybrid.report.summary import SeedFigures
from hybrid.types import Decision, Draft, Example, Judged, Scored, Vote

pytestmark = pytest.mark.slow

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = "<script>document.title = 'taken over'</script><img src=x onerror=\"document.title='taken over'\">"
LOADING = {"src", "href", "srcset", "data", "poster", "action", "formaction", "xlink:href", "background"}


class Parsed(HTMLParser):
    """The tags, what their attributes would load, and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.pieces: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in LOADING]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run beside its project, so that a test may change it."""
    shutil.copytree(finished.parents[2], tmp_path / "project")
    return tmp_path / "project" / finished.relative_to(finished.parents[2])


def story_of(folder: Path) -> RunContext:
    recipe = folder.parents[2] / "dishes" / "recipe.toml"
    return RunContext(read_recipe(recipe), recipe.parent, Run(folder, Screen()), folder / "traces.sqlite")


def write(folder: Path, seeds: Callable[[SeedFigures], list[SeedFigures]] = lambda first: [first]) -> str:
    """Write the outcome again from what lies in the folder; return the page."""
    story = story_of(folder)
    write_outcome(story, seeds(SeedFigures.read(story, [served_variant(story)])))
    return (folder / "report.html").read_text(encoding="utf-8")


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode((folder / "summary.json").read_bytes())
    return found


def change_report(folder: Path, stage: str, **changes: object) -> None:
    path = folder / stage / "report.json"
    write_json(path, msgspec.json.decode(path.read_bytes()) | changes)


def words(page: str) -> str:
    """Return the text of a page with single spaces, one between two elements too."""
    return " ".join(" ".join(Parsed(page).pieces).split())


def with_a_teacher(folder: Path, text: str) -> None:
    """Give the run votes, a relabelled row and a refused draft, all with `text` in them."""
    rows = read_rows(folder / "split" / "rows.jsonl", Example)
    first = next(row for row in rows if row.part == "train")
    other = "good" if first.label != "good" else "bad"
    write_rows(
        folder / "split" / "rows.jsonl",
        [msgspec.structs.replace(row, text=text) if row.id == first.id else row for row in rows],
    )
    decisions = read_rows(folder / "clean" / "decisions.jsonl", Decision)
    write_rows(
        folder / "clean" / "decisions.jsonl",
        [
            msgspec.structs.replace(d, action="relabel", label=other, reason=f"because {text}")
            if d.id == first.id
            else d
            for d in decisions
        ],
    )
    vote = Vote(id=first.id, status="ok", label=other, rationale=text, teacher=text)
    write_rows(folder / "verify" / "votes.jsonl", [vote])
    draft = Draft(id="draft/1", text=text, label=other, status="refused", reason=f"label not agreed: {text}")
    write_rows(folder / "synthesize" / "drafts.jsonl", [draft])
    change_report(
        folder,
        "synthesize",
        drafts=1,
        refused={"label not agreed": 1},
        accepted={"bad": 0, "good": 0, "plain": 0},
        minority=["plain"],
    )
    change_report(
        folder,
        "verify",
        asked=1,
        ok=1,
        failed=0,
        unreadable=0,
        abstained=0,
        disagree_share=1.0,
        teacher=text,
        first_failure=text,
    )
    change_report(folder, "clean", changes={f"{text} -> good": 1}, source_weights={text: 0.5}, ignored_sources=[text])


def test_the_figures_of_the_page_are_those_of_the_summary(finished: Path) -> None:
    summary = summary_of(finished)
    said = words((finished / "report.html").read_text(encoding="utf-8"))
    served, c, t = summary["test"][summary["served"]], summary["calibration"], summary["threshold"]
    assert f"{summary['labels']['wrong_given']:.1%} of the training labels were wrong as given" in said
    assert f"Accuracy on test {served['accuracy']:.1%} macro-F1 {served['macro_f1']:.3f}" in said
    low, high = served["accuracy_interval"]
    assert f"(served) {served['accuracy']:.3f} {low:.3f} to {high:.3f}" in said
    null = f"{c['ece_refit95']:.3f} {c['ece_null95']:.3f}"
    assert f"ECE {c['ece_before']:.3f} {c['ece_after']:.3f} {null}" in said
    assert f"NLL {c['nll_before']:.3f} {c['nll_after']:.3f} Brier {c['brier_before']:.3f}" in said
    assert f"On the test rows the encoder answers {t['test']['kept']:.1%}" in said
    assert all(f"TF-IDF, {name}" in said for name in ("labels as given", "cleaned labels", "gold labels"))
    assert summary["recipe_hash"] in said
    bundle = msgspec.json.decode((finished / "bundle" / "bundle.json").read_bytes())
    assert all(sha256 in said for sha256 in bundle["files"].values())


def test_every_doubted_row_is_on_the_page_with_its_gold(finished: Path) -> None:
    said = words((finished / "report.html").read_text(encoding="utf-8"))
    texts = {row.id: row.text for row in read_rows(finished / "split" / "rows.jsonl", Example)}
    doubted = [d for d in read_rows(finished / "clean" / "decisions.jsonl", Decision) if d.action != "keep"]
    assert doubted
    assert all(texts[d.id] in said for d in doubted)
    assert "Gold (not used)" in said


def test_the_page_loads_nothing(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert all(url.startswith("#") or url == "data:," for url in Parsed(page).loads)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page


def test_a_row_of_data_cannot_act_on_the_page(folder: Path) -> None:
    with_a_teacher(folder, HOSTILE)
    found = Parsed(write(folder))
    assert found.tags.count("script") == 1
    assert "img" not in found.tags
    assert not found.handlers
    assert "".join(found.pieces).count(HOSTILE) >= 6, (
        "the row is shown as it stands: text, reason, rationale, draft, change"
    )


def test_a_label_with_mathematics_and_markup_is_drawn_as_it_stands() -> None:
    from hybrid.report.figures import class_balance

    label = "$x_1$ <b>&\\frac"
    svg = class_balance({label: 3, "b": 4}, {label: 2, "b": 5})
    found = Parsed(svg)
    assert label in found.pieces
    assert "b" not in found.tags


def of_class(label: str, recall: tuple[float, float], *, passed: bool, reason: str = "") -> dict[str, object]:
    return {
        "label": label,
        "passed": passed,
        "reason": reason,
        "rows": 30,
        "recall": {"nothing": recall[0], "drafts": recall[1]},
        "precision": {"nothing": 0.5, "drafts": 0.625},
        "recall_gain_p": 0.01,
    }


def test_the_gates_are_shown_class_by_class_with_every_remedy_and_what_a_point_of_recall_cost(folder: Path) -> None:
    shown = {"drafts": 12, "macro_f1": {"nothing": 0.5, "drafts": 0.75}, "seeds": 5, "folds": 2, "judging_rows": 321}
    told_apart = {"auroc": 0.875, "words": ["delightfully", "whilst"]}
    alike = {"texts": 12, "distinct_1": 0.5, "distinct_2": 0.9, "mean_similarity": 0.25}
    change_report(
        folder,
        "synthesize",
        drafts=12,
        accepted={"plain": 12},
        minority=["plain"],
        gate=shown | {"classes": [of_class("plain", (0.125, 0.25), passed=True)]},
        encoder_gate=shown | {"classes": [of_class("plain", (0.25, 0.375), passed=False, reason="no rise")]},
        waves=[{"label": "plain", "drafts": 40, "accepted": 12, "recall": 0.4375}],
        diversity={"plain": {"drafts": alike, "real": alike, "told_apart": told_apart}},
        llm={"calls": 41, "hits": 0, "input_tokens": 1, "output_tokens": 1, "cost_usd": 1.25},
    )
    said = words(write(folder))
    assert "frozen embeddings plain nothing 0.500 0.125 0.500" in said
    assert "frozen embeddings plain drafts 0.750 0.250 0.625 pass; $0.10 a point of recall" in said
    assert "the encoder plain drafts 0.750 0.375 0.625 do not pass: no rise" in said
    assert "321 rows judge" in said
    assert "plain 40 12 0.438" in said or "plain 40 12 0.437" in said
    assert "AUROC of 0.88" in said or "AUROC of 0.87" in said
    assert "words that the drafts over-use: delightfully, whilst" in said


def test_the_same_run_gives_the_same_bytes(folder: Path, finished: Path) -> None:
    written = [write(folder)]
    card = (folder / "bundle" / "README.md").read_bytes()
    for path in (folder / "report.html", folder / "bundle" / "README.md"):
        path.unlink()
    written.append(write(folder))
    assert written[0] == written[1] == (finished / "report.html").read_text(encoding="utf-8")
    assert (folder / "bundle" / "README.md").read_bytes() == card == (finished / "bundle" / "README.md").read_bytes()


def test_a_run_without_changes_neither_draws_nor_writes_again(folder: Path) -> None:
    write(folder)
    before = (folder / "report.html").stat().st_mtime_ns
    code = (
        "import sys; sys.modules['matplotlib'] = sys.modules['jinja2'] = None\n"
        "from pathlib import Path; from tests.test_report import write; write(Path(sys.argv[1]))"
    )
    root = Path(__file__).resolve().parents[1]
    subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=root, check=True, env=os.environ | {"PYTHONPATH": str(root)}
    )
    assert (folder / "report.html").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("reason", "error", "said"),
    [
        ("no_bf16_hardware", "", "training precision fp32, this machine has no hardware for bf16"),
        ("bf16_failed", "no primitive", "training precision fp32, bf16 failed in the trial (no primitive)"),
        (None, "", "training precision fp32 "),
    ],
)
def test_the_page_says_what_decided_the_training_precision(
    reason: str | None, error: str, said: str, folder: Path
) -> None:
    change_report(
        folder,
        "train",
        precision="fp32",
        precision_reason=reason,
        precision_error=error,
        seconds_a_step_in_trial={},
    )
    assert said in words(write(folder))


def test_every_reason_for_a_training_precision_has_words() -> None:
    from hybrid.encoders.device import Reason
    from hybrid.report.page import PRECISION_REASONS

    assert set(PRECISION_REASONS) == set(get_args(Reason))


def test_a_report_of_version_0_1_0_says_what_judges_under_todays_name(folder: Path) -> None:
    path = folder / "evaluate" / "report.json"
    report = msgspec.json.decode(path.read_bytes())
    assert report.pop("judged_by_gold") is report["trusted"] is True
    write_json(path, report | {"trusted": False})
    assert Run(folder, Screen()).report("evaluate")["judged_by_gold"] is False
    write(folder)
    summary = summary_of(folder)
    assert summary["judged_by_gold"] is summary["trusted"] is False


def test_the_closing_lines_say_whose_labels_judge_and_what_the_threshold_guarantees(folder: Path) -> None:
    change_report(
        folder, "evaluate", judged_by_gold=False, trusted=False, labels={"wrong_given": None, "wrong_cleaned": None}
    )
    write(folder)
    lines = "\n".join(closing_lines(folder))
    assert "wrong training labels  unknown without gold labels" in lines
    assert "test rows (labels as given), mean of 1 seed" in lines
    summary = summary_of(folder)
    threshold = summary["threshold"] | {"met": False, "rows_needed": 900}
    (folder / "summary.json").write_bytes(msgspec.json.encode(summary | {"threshold": threshold}))
    cannot = f"every row escalates: {summary['rows']['calibration']} calibration rows cannot guarantee"
    assert cannot in "\n".join(closing_lines(folder))


def test_the_closing_lines_say_why_probabilities_are_not_calibrated(folder: Path) -> None:
    write(folder)
    assert "not calibrated" not in "\n".join(closing_lines(folder))
    summary = summary_of(folder)
    calibration = summary["calibration"] | {"method": "none", "basis": "given"}
    (folder / "summary.json").write_bytes(msgspec.json.encode(summary | {"calibration": calibration}))
    assert "not calibrated: calibration rows lack gold labels" in "\n".join(closing_lines(folder))


def test_a_changed_stage_makes_a_new_page(folder: Path) -> None:
    change_report(folder, "train", resumed_from_step=17)
    assert "resumed from its checkpoint at step 17" in words(write(folder))


def test_without_gold_the_page_says_what_cannot_be_known(folder: Path) -> None:
    (folder / "split" / "gold.jsonl").write_bytes(b"")
    change_report(folder, "split", judged_by_gold=False, trusted=False, gold_rows=0)
    change_report(
        folder, "evaluate", judged_by_gold=False, trusted=False, labels={"wrong_given": None, "wrong_cleaned": None}
    )
    page = words(write(folder))
    assert "unknown without gold labels" in page
    assert "Gold (not used)" not in page
    assert "None" not in page
    assert "unknown without gold labels" in (folder / "bundle" / "README.md").read_text(encoding="utf-8")


def test_a_run_that_keeps_rows_or_none_says_so(folder: Path) -> None:
    kept = {"value": 0.7, "kept": 0.5, "accuracy_kept": 0.93, "escalated": 45, "answered": 0}
    none = {"value": 2.0, "kept": 0.0, "accuracy_kept": None, "escalated": 90, "answered": 0}
    for test, said in ((kept, "of which 93.0% are right"), (none, "every row escalates")):
        change_report(folder, "evaluate", threshold=test | {"accuracy": 0.8, "macro_f1": 0.7})
        assert said in words(write(folder))


def test_gates_of_an_earlier_version_are_still_shown_and_whose_votes_are_ignored(folder: Path) -> None:
    with_a_teacher(folder, "weak#0")
    frozen = {
        "passed": True,
        "reason": "",
        "drafts": 7,
        "macro_f1": [0.7, 0.71],
        "recall": {"plain": [0.4, 0.5]},
        "recall_gain": 0.1,
        "recall_gain_p": 0.001,
        "seeds": 5,
        "folds": 5,
    }
    encoder = frozen | {"passed": False, "reason": "macro-F1 falls", "macro_f1": [0.8, 0.789], "seeds": 1}
    change_report(folder, "synthesize", gate=frozen, encoder_gate=encoder)
    said = words(write(folder))
    assert "The votes of weak#0 are ignored" in said
    assert (
        "trains a classifier on frozen embeddings, 5 times. The second trains the encoder on all but one of 5" in said
    )
    assert "frozen embeddings 0.7000 0.7100 +0.100 0.001 passes the encoder 0.8000 0.7890" in said
    assert "0.001 does not pass: macro-F1 falls" in said


def test_a_recorded_decoder_is_called_recorded_and_draws_the_cascade(folder: Path) -> None:
    points = [
        {"share": share, "escalated": round(90 * share), "threshold": 0.5, "accuracy": 0.8, "macro_f1": 0.7}
        for share in (0.0, 0.5, 1.0)
    ]
    at = {"value": 0.7, "kept": 0.5, "accuracy_kept": 0.93, "escalated": 45, "answered": 40}
    change_report(folder, "evaluate", cascade=points, threshold=at | {"accuracy": 0.876, "macro_f1": 0.7})
    path = folder.parents[2] / "dishes" / "recipe.toml"
    path.write_text(path.read_text() + '\n[decoder]\nmodel = "recorded"\ntraces = "none.jsonl"\n')
    page = write(folder)
    assert "10. The recorded cascade" in page
    assert "With escalation 87.6%" in words(page)
    assert "40 of 45 get an answer" in words(page)
    assert "by the share of rows escalated" in page


def test_several_seeds_show_their_range_and_the_way_to_the_ceiling(folder: Path) -> None:
    def three(first: SeedFigures) -> list[SeedFigures]:
        served = first.test["cleaned"]
        variants = {"given": -0.06, "cleaned": 0.0, "gold": 0.02}
        return [
            msgspec.structs.replace(
                first,
                seed=seed,
                test=first.test
                | {
                    name: served | {m: round(served[m] + gain + 0.01 * seed, 6) for m in ("accuracy", "macro_f1")}
                    for name, gain in variants.items()
                },
            )
            for seed in range(3)
        ]

    page = words(write(folder, three))
    served = summary_of(folder)["test"]["cleaned"]
    assert f"{min(served['accuracy_seeds']):.3f} to {max(served['accuracy_seeds']):.3f}" in page
    assert "closes 75% of the gap" in page
    assert "Train on cleaned labels macro-F1 on test" in page
    assert "mean over 3 seeds" in (folder / "bundle" / "README.md").read_text(encoding="utf-8")


def test_many_labels_get_a_list_of_mistakes_instead_of_a_matrix(folder: Path) -> None:
    from hybrid.report.page import MOST_LABELS_CROSSED

    labels = ["bad", "good", "plain", *(f"label {i}" for i in range(MOST_LABELS_CROSSED))]
    counts = dict.fromkeys(labels, 1)
    size = len(labels)
    change_report(folder, "split", labels=labels, classes=dict.fromkeys(("train", "calibration", "test"), counts))
    change_report(folder, "clean", classes_before=counts, classes_after=counts)
    confusion = [[int(i == j) + 4 * int(i == 1 and j == 2) for j in range(size)] for i in range(size)]
    change_report(folder, "evaluate", confusion=confusion, recall=dict.fromkeys(labels, 0.5) | {"label 3": None})
    judged = read_rows(folder / "evaluate" / "judged.jsonl", Judged)
    pad = (0.0,) * (size - 3)
    wide = [
        msgspec.structs.replace(row, probs=row.probs + pad, logits=(*row.logits, *(-50.0 for _ in pad)))
        for row in judged
    ]
    write_rows(folder / "evaluate" / "judged.jsonl", wide)
    scored = read_rows(folder / "calibrate" / "scored.jsonl", Scored)
    padded = [msgspec.structs.replace(row, probs=row.probs + pad) for row in scored]
    write_rows(folder / "calibrate" / "scored.jsonl", padded)
    recipe = folder.parents[2] / "dishes" / "recipe.toml"
    recipe.write_text(re.sub(r"^labels = .*$", f"labels = {labels}", recipe.read_text(), flags=re.MULTILINE))
    page = words(write(folder))
    assert "Most often confused with" in page
    assert "good 5 0.500 plain (4)" in page


def test_the_card_says_how_to_load_and_leaves_the_licence_to_the_user(finished: Path) -> None:
    card = (finished / "bundle" / "README.md").read_text(encoding="utf-8")
    summary = summary_of(finished)
    served = summary["test"][summary["served"]]
    low, high = served["macro_f1_interval"]
    assert f"| macro-F1 | {served['macro_f1']:.3f} [{low:.3f} to {high:.3f}] |" in card
    assert 'hybrid.load("bundle")' in card
    assert "yours to state" in card
    assert "README.md" not in msgspec.json.decode((finished / "bundle" / "bundle.json").read_bytes())["files"]


def test_a_label_cannot_break_the_card() -> None:
    from hybrid.report.templates import cell

    assert cell("a|b\n<script> [x](y) `z`") == "a&#124;b &lt;script&gt; &#91;x&#93;(y) &#96;z&#96;"


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}: apt-get install chromium")
@pytest.mark.parametrize("width", [400, 1400])
def test_in_a_browser_the_search_filters_and_no_row_takes_the_page_over(folder: Path, width: int) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with_a_teacher(folder, f"zebra {HOSTILE}")
    write(folder)
    said: list[str] = []
    asked: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((folder / "report.html").as_uri())
        rows = page.locator("#examples tbody tr")
        n_rows = rows.count()
        page.get_by_label("Search the rows").fill("Zebra")
        found = [page.locator("#examples tbody tr:visible").count(), page.locator("#search output").inner_text()]
        page.get_by_label("Search the rows").fill("")
        page.get_by_label("Action").select_option("review")
        reviewed = page.locator("#search output").inner_text()
        title, too_wide = page.title(), page.evaluate("document.documentElement.scrollWidth - innerWidth")
        browser.close()
    assert found == [1, f"1 of {n_rows} rows"]
    assert reviewed == f"1 to 20 of {n_rows - 1} rows that fit"
    assert title == "dishes: run report"
    assert too_wide <= 0
    assert not said
    assert all(url.startswith(("file:", "data:")) for url in asked)


@contextmanager
def opened(folder: Path, width: int) -> Iterator[Any]:
    """The report in a browser window of that width."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto((folder / "report.html").as_uri())
        yield page
        browser.close()


IN_SIGHT = "(id) => { const box = document.querySelector(`nav a[href='#${id}']`).getBoundingClientRect();"
IN_SIGHT += " return box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth; }"
CUT = "[...document.querySelectorAll('.wide')].filter((box) => box.scrollWidth > box.clientWidth + 1).length"


def test_the_rows_are_shown_twenty_at_a_time_and_the_contents_stay_in_sight(finished: Path) -> None:
    with opened(finished, 1440) as page:
        shown = page.locator("#examples tbody tr:visible")
        n_rows, texts = page.locator("#examples tbody tr").count(), [shown.first.inner_text()]
        counts = [shown.count()]
        page.get_by_label("Next rows").click()
        texts.append(shown.first.inner_text())
        said = page.locator("#search output").inner_text()
        while page.get_by_label("Next rows").is_enabled():
            page.get_by_label("Next rows").click()
        counts.append(shown.count())
        back = page.get_by_label("Previous rows").is_enabled()
        for width in (1440, 1000, 390):
            page.set_viewport_size({"width": width, "height": 900})
            for section in ("labels", "calibration", "cost"):
                page.evaluate("(id) => document.getElementById(id).scrollIntoView({ behavior: 'instant' })", section)
                page.locator(f"nav a[href='#{section}'][aria-current]").wait_for()
                page.wait_for_function(IN_SIGHT, arg=section)
    assert counts == [20, n_rows % 20 or 20]
    assert texts[0] != texts[1]
    assert said == f"21 to 40 of {n_rows} rows"
    assert back


def test_no_column_is_cut_on_a_narrow_screen_or_on_paper_and_every_row_is_printed(finished: Path) -> None:
    with opened(finished, 1000) as page:
        cut = [page.evaluate(CUT)]
        page.set_viewport_size({"width": 688, "height": 1000})  # A4 within its margins, at 96 dots an inch
        page.emulate_media(media="print")
        cut.append(page.evaluate(CUT))
        too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        n_rows, n_printed = (page.locator(f"#examples tbody tr{kind}").count() for kind in ("", ":visible"))
        contents = page.locator("nav").is_visible()
        pdf = page.pdf(prefer_css_page_size=True)
    assert cut == [0, 0]
    assert too_wide <= 0
    assert n_rows == n_printed > 20
    assert not contents
    assert pdf.startswith(b"%PDF")
