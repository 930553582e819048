"""The page in a real browser before a real service: what it shows is what the bundle says, and no text acts on it."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

import hybrid
from hybrid.runtime.bundle import Bundle
from serving.page import files as own_page
from serving.page.files import POLICY
from serving.service import ClassifierService
from serving.settings import API_KEYS, DecoderSettings, Settings
from serving.telemetry.observer import Telemetry
from serving.types import Answer, Deadline
from tests.corpus import texts_and_gold
from tests.serving.answer_fixtures import answer, traffic
from tests.serving.scripted import Scripted, at_once
from tests.serving.threaded import served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = "<img src=x onerror=\"document.title='taken over'\"><script>document.title='taken over'</script>"
TEXTS = texts_and_gold(40, seed=9)[0]
SHORT = "The soup was superb."
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}: apt-get install chromium"),
]

WITH_DECODER = Settings(decoder=DecoderSettings(model="judge", base_url="http://127.0.0.1:9"))
"""The page offers a decoder where the settings name one."""


class Reasoner:
    """Answers what escalates as a decoder would that was told to attack the page."""

    async def escalate(self, bundle: Bundle, text: str, answer: Answer, deadline: Deadline) -> Answer:
        return msgspec.structs.replace(
            answer, label="plain", labels=("plain",), source="decoder", escalation="answered", rationale=HOSTILE
        )

    async def decide(self, text: str, labels: tuple[str, ...], instructions: str, deadline: Deadline) -> Answer:
        raise NotImplementedError

    async def close(self, within_s: float = 0.0) -> None:
        pass


class Site(msgspec.Struct, frozen=True):
    url: str
    watch: Telemetry
    service: ClassifierService
    classifier: hybrid.runtime.Classifier


@pytest.fixture(scope="module")
def site(bundle_dir: Path) -> Iterator[Site]:
    watch = Telemetry(WITH_DECODER)
    service = ClassifierService(bundle_dir, Settings(), watch, Reasoner(), watch.set_bundle)
    with served(service, extra_routes=[*watch.routes(), *own_page.routes()]) as url:
        yield Site(url, watch, service, hybrid.load(bundle_dir))


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield opened
        opened.close()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def page(browser: "Browser", site: Site, said: list[str]) -> Iterator["Page"]:
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(site.url)
    opened.get_by_role("heading", name="dishes").wait_for()
    yield opened
    opened.close()


def try_text(page: "Page", text: str, decoder: str = "never") -> Any:
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_label("Decoder").select_option(decoder)
    page.get_by_role("button", name="Classify", exact=True).click()
    page.locator("#answer:not([aria-busy]) > *").first.wait_for()
    return page.locator("#answer")


def classify_all(page: "Page", texts: Sequence[str]) -> str:
    page.get_by_label("Texts, one per line").fill("\n".join(texts))
    page.get_by_role("button", name="Classify all").click()
    page.locator("#table table").wait_for()
    return page.locator("#column-says").inner_text()


def slide(page: "Page", index: int) -> None:
    page.get_by_role("slider").evaluate(
        "(slider, to) => { slider.value = to; slider.dispatchEvent(new Event('input')); }", index
    )


def test_a_text_gets_the_label_the_probabilities_and_the_reason_that_the_bundle_gives(
    page: "Page", site: Site, said: list[str]
) -> None:
    wanted = site.classifier.classify([SHORT])[0]
    shown_answer = try_text(page, SHORT)
    assert shown_answer.locator(".label strong").inner_text() == wanted.label
    ranked = sorted(wanted.probs.items(), key=lambda one: -one[1])
    assert shown_answer.locator(".bars .name").all_inner_texts() == [label for label, _ in ranked]
    told = [
        float(shown_text.rstrip(" %")) / 100 for shown_text in shown_answer.locator(".bars .value").all_inner_texts()
    ]
    assert told == pytest.approx([p for _, p in ranked], abs=0.006)
    assert f"confidence is {wanted.confidence:.3f}" in shown_answer.inner_text()
    tokens = len(site.classifier._encoder.encode([SHORT])[0])
    assert f"The encoder read {tokens} tokens, the whole text." in shown_answer.inner_text()
    widths = shown_answer.locator(".fill").evaluate_all("bars => bars.map(bar => parseFloat(bar.style.width) / 100)")
    assert widths == pytest.approx([p for _, p in ranked], abs=1e-3)
    assert not said


def test_a_text_that_was_cut_is_said_to_be(page: "Page") -> None:
    assert "the rest was cut off" in try_text(page, "soup " * 200).inner_text()


def test_a_decoder_is_offered_only_where_there_is_one(browser: "Browser", site: Site) -> None:
    without = Telemetry(Settings())
    without.set_bundle(site.service.bundle, site.service.bundle_id)
    unstarted = Scripted(site.service.folder, at_once)
    with served(unstarted, extra_routes=[*without.routes(), *own_page.routes()]) as url:
        opened = browser.new_page()
        opened.goto(url)
        opened.get_by_text("no decoder").wait_for()
        assert not opened.get_by_label("Decoder").is_visible()
        opened.close()


def test_the_decoders_reasoning_and_the_text_are_shown_and_cannot_act(page: "Page", said: list[str]) -> None:
    shown_answer = try_text(page, HOSTILE, "always")
    assert shown_answer.locator("blockquote p").inner_text() == HOSTILE
    assert shown_answer.locator(".label strong").inner_text() == "plain"
    assert "The decoder was asked" in shown_answer.inner_text()
    classify_all(page, [HOSTILE, TEXTS[0]])
    assert page.locator("#table td.text").first.inner_text().startswith(HOSTILE)
    assert page.title() == "dishes"
    assert page.locator("main img, main script").count() == 0
    assert not said


def test_markup_that_got_into_the_page_all_the_same_would_not_run(page: "Page", said: list[str]) -> None:
    """The control of the test before: the policy of the page holds where its code would not."""
    page.evaluate("markup => { document.querySelector('#answer').innerHTML = markup; }", HOSTILE)
    page.evaluate(
        "() => { const s = document.createElement('script'); s.text = 'document.title = 1'; document.body.append(s); }"
    )
    page.wait_for_timeout(300)
    assert page.title() == "dishes"
    assert any("Content Security Policy" in message for message in said)


def test_a_column_becomes_a_table_and_a_csv_with_every_answer_in_its_place(page: "Page", site: Site) -> None:
    texts = [*TEXTS, "=HYPERLINK(1)", 'a "quoted", text', HOSTILE]
    summary = classify_all(page, [*texts[:5], "   ", *texts[5:]])
    wanted = site.classifier.classify(texts)
    assert summary.startswith(f"{len(texts)} of {len(texts)} answered")
    assert page.locator("#table tbody tr").count() == len(texts)
    with page.expect_download() as started:
        page.get_by_role("button", name="Download CSV").click()
    content = Path(started.value.path()).read_bytes()
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert [row["text"] for row in rows] == [text if text[0] != "=" else f"'{text}" for text in texts]
    assert [row["encoder_label"] for row in rows] == [expected.label for expected in wanted]
    for row, prediction in zip(rows, wanted, strict=True):
        results = [float(row[f"probability of {label}"]) for label in prediction.probs]
        assert results == pytest.approx(list(prediction.probs.values()), abs=1e-4)


def test_the_slider_says_what_the_calibration_rows_predict_and_the_texts_follow_it(page: "Page", site: Site) -> None:
    reference = site.service.bundle.reference
    assert reference is not None
    for index in (0, len(reference.curve) // 2, len(reference.curve) - 1):
        slide(page, index)
        point = reference.curve[index]
        assert page.locator("#at-threshold").inner_text() == f"{point.threshold:.3f}"
        shown = {name: page.locator(f"#at-{name}").inner_text() for name in ("escalated", "accuracy", "bound")}
        told = [float(share.rstrip(" %")) / 100 for share in shown.values()]
        assert told == pytest.approx([1 - point.kept, point.accuracy, point.lower_bound], abs=0.006)
    strict = classify_all(page, TEXTS)
    slide(page, 0)
    loose = classify_all(page, TEXTS)
    n_below = [int(re.search(r"(\d+) below", item)[1]) for item in (strict, loose)]  # type: ignore[index]
    kept = [entry.confidence for entry in site.classifier.classify(TEXTS)]
    assert n_below == [sum(c < reference.curve[i].threshold for c in kept) for i in (-1, 0)]
    assert n_below[0] > n_below[1]
    page.get_by_role("button", name="Back to the bundle").click()
    assert page.get_by_role("button", name="Back to the bundle").is_disabled()
    page.locator("#promises summary").click()
    promised = page.locator("#promise-list li").all_inner_texts()
    assert [line.split(" right")[0] for line in promised][-2:] == ["95 %", "99 %"], "targets are whole percents"


def test_live_numbers_come_while_somebody_looks_and_only_then(page: "Page", site: Site) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for _ in range(3):
        httpx.post(f"{site.url}/v1/classify", json={"inputs": TEXTS}, timeout=30)
    page.wait_for_function("Number(document.querySelector('#charts strong').textContent) > 0")
    page.wait_for_function("[...document.querySelectorAll('#charts path')].some(p => p.getAttribute('d').length > 20)")
    with page.expect_request("**/v1/watch"):
        pass
    hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, True)
    page.wait_for_timeout(1500)
    asked.clear()
    page.wait_for_timeout(2500)
    assert not asked
    with page.expect_request("**/v1/watch"):
        page.evaluate(hide, False)
    assert all(url.startswith(site.url) for url in asked)


def test_an_alarm_of_drift_is_told_with_what_moved(page: "Page", site: Site) -> None:
    quiet = (
        "Not enough data yet" in page.locator("#drift-says").inner_text()
        or "look like" in page.locator("#drift-says").inner_text()
    )
    assert quiet
    shifted = [answer("plain", 0.5, tokens=30, bundle_id=site.service.bundle_id) for _ in traffic(1000, 1)]
    site.service._pool.submit(lambda: site.watch.drift and site.watch.drift.note(shifted)).result()
    page.get_by_text("Alarm: ").wait_for()
    told = page.locator("#drift-says").inner_text()
    assert "of the last 1000 texts" in told
    assert page.locator("figure.alarm").count() == told.count("of the calibration rows")


def test_an_outage_and_a_refusal_are_said_in_words_and_the_page_recovers(page: "Page", site: Site) -> None:
    page.context.set_offline(True)
    assert "cannot be reached" in try_text(page, TEXTS[0]).inner_text()
    page.get_by_text("no contact").wait_for()
    page.context.set_offline(False)
    page.get_by_text("ready", exact=True).wait_for(timeout=15_000)
    assert try_text(page, TEXTS[0]).locator(".bars li").count() == 3
    refused = try_text(page, "x" * (1 << 20)).inner_text()
    assert re.search(r"[Bb]ody|characters", refused)


def test_a_key_is_asked_for_when_it_is_wanted_and_kept_for_the_tab(
    browser: "Browser", bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_KEYS, "right")
    watch = Telemetry(WITH_DECODER)
    service = ClassifierService(bundle_dir, Settings(), watch, None, watch.set_bundle)
    with served(service, extra_routes=[*watch.routes(), *own_page.routes()]) as url:
        assert httpx.get(f"{url}/v1/watch").status_code == 401
        context = browser.new_context(extra_http_headers={"authorization": "Bearer right"})
        page = context.new_page()
        page.goto(url)
        page.get_by_role("heading", name="dishes").wait_for()
        context.set_extra_http_headers({})
        field = page.get_by_label("This service asks for an API key")
        field.wait_for()
        field.fill("wrong")
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("does not know this API key").wait_for()
        field.fill("right")
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("ready", exact=True).wait_for()
        assert try_text(page, TEXTS[0]).locator(".bars li").count() == 3
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 1, ""]
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_too_wide_and_every_field_has_a_name(browser: "Browser", site: Site, scheme: str) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(site.url)
    page.get_by_role("heading", name="dishes").wait_for()
    try_text(page, TEXTS[0])
    classify_all(page, [*TEXTS[:3], "longwordwithoutaspace" * 30])
    page.wait_for_timeout(1200)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    unnamed = page.locator("input, textarea, select, button").evaluate_all(
        "found => found.filter(one => !(one.labels?.length || one.textContent.trim() || one.ariaLabel)).length"
    )
    assert unnamed == 0
    assert page.locator("svg:not([aria-label])").count() == 0
    assert contrast(page) >= 4.5
    page.close()


def test_the_keyboard_alone_is_enough(page: "Page") -> None:
    page.get_by_label("Text", exact=True).focus()
    page.keyboard.type("The soup was superb and fresh.")
    page.keyboard.press("Control+Enter")
    page.locator("#answer .bars").wait_for()
    page.get_by_role("slider").focus()
    before = page.locator("#at-threshold").inner_text()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#at-threshold").inner_text() != before


def test_the_files_go_out_under_a_strict_policy_and_are_sent_once(site: Site) -> None:
    first = httpx.get(site.url)
    assert first.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", first.text)
    again = httpx.get(site.url, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for name in re.findall(r'(?:src|href)="(/page/[^"]+)"', first.text):
        assert httpx.get(site.url + name).status_code == 200


def contrast(page: "Page") -> float:
    """Return the least contrast of text that is seen against what is behind it (WCAG 2.2, 1.4.3)."""
    return float(
        page.evaluate(
            """() => {
  const light = rgb => rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const parse = color => color.match(/[\\d.]+/g).map(Number);
  const back = one => { for (; one; one = one.parentElement) {
    const found = parse(getComputedStyle(one).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found.slice(0, 3);
  } return [255, 255, 255]; };
  return Math.min(...[...document.querySelectorAll('main *, header *')]
    .filter(one => one.checkVisibility() && !one.disabled && !one.closest('svg') &&
      [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
    .map(one => { const [a, b] = [light(parse(getComputedStyle(one).color).slice(0, 3)), light(back(one))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }));
}"""
        )
    )
