"""hybrid advise: each verdict on data that call for it, by measurement; test rows teach nothing."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from hybrid.__main__ import main
from hybrid.advise.learning import signal_of, worth_of
from hybrid.advise.measurements import (
    EncoderSpeed,
    Facts,
    Learned,
    Measured,
    Noise,
    NotMeasured,
    Teacher,
    TeacherWay,
    Wishes,
)
from hybrid.advise.thresholds import CORE_USD_PER_HOUR, MOST_ROWS, THRESHOLDS
from hybrid.advise.tree import VERDICTS, Verdict, decide
from hybrid.artifacts import fetch
from hybrid.commands.advise import duration_ms
from hybrid.data.sources import load_data
from hybrid.errors import ArtifactError
from hybrid.evaluation.intervals import Estimate, share_interval
from hybrid.recipe_files.find import find_recipe
from hybrid.recipe_files.read import read_recipe
from hybrid.stages.split import split
from tests.corpus import LABELS, WORDS, noisy, texts_and_gold
from tests.messages_server import MessagesServer, answer
from tests.test_pilot import is_reasoned, text_of

CHECKOUT = Path(__file__).parent.parent
ROWS = 300


def write_csv(path: Path, columns: Mapping[str, Sequence[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture(autouse=True)
def no_packaged_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged decoder counts as not fetched, or each of these tests would ask it six times."""
    monkeypatch.setattr("hybrid.advise.local_decoders.cached", lambda name: False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def advise(data: Path, encoder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What the command says for programs about a file whose columns are text and label."""
    settings = ["--set", f"encoder.model={encoder}", "--set", "encoder.max_length=32"]
    assert main(["advise", data.name, "--label", "label", *settings, *words, "--json"]) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    result: dict[str, Any] = json.loads(captured.out)
    return result | {"screen": captured.err}


@pytest.mark.slow
def test_noise_in_place_of_labels_is_not_automated(
    bert: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, _ = texts_and_gold(400)
    drawn = np.random.default_rng(1).choice(LABELS, len(texts)).tolist()
    found = advise(write_csv(folder / "noise.csv", {"text": texts, "label": drawn}), bert, capsys)
    assert found["decision"]["verdict"] == "not_yet"
    assert found["measured"]["noise"]["signal_p"] > 0.05
    assert found["recipe"] == found["run"] == ""
    assert not (folder / "recipes").exists()
    assert "verdict: do not automate this yet" in found["screen"]
    assert [each["what"] for each in found["measured"]["untimed"]] == ["the packaged decoder", "the student"]
    for words in ("the time of the packaged decoder: it has not been fetched", "only the price is known"):
        assert words in " ".join(found["screen"].split())


@pytest.mark.slow
def test_sixty_rows_are_examples_for_a_language_model(
    bert: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, gold = texts_and_gold(60)
    found = advise(write_csv(folder / "few.csv", {"text": texts, "label": gold}), bert, capsys)
    assert found["decision"]["verdict"] == "llm_with_examples"
    recipe = read_recipe(folder / found["recipe"])
    assert recipe.decoder.policy == recipe.teacher.policy == "policy.md"
    policy = (folder / "recipes/few/policy.md").read_text()
    assert all(f"## {label}" in policy for label in LABELS)
    again = advise(folder / "few.csv", bert, capsys)
    assert "is there already and stays as it is" in again["screen"]
    assert again["recipe"] == found["recipe"]


def by_split(texts: Sequence[str], labels: Sequence[str]) -> dict[str, list[str]]:
    parts = (["train"] * 7 + ["calibration", "test", "test"]) * (len(texts) // 10)
    return {"text": list(texts), "label": list(labels), "part": parts}


@pytest.mark.slow
def test_test_rows_teach_and_score_nothing(bert: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts, gold = texts_and_gold(ROWS)
    columns = by_split(texts, noisy(gold, 0.1))
    first = advise(write_csv(folder / "rows.csv", columns), bert, capsys, "--split", "part")
    spoiled = [
        (f"Sermon {i} of the day", LABELS[0]) if part == "test" else (text, label)
        for i, (text, label, part) in enumerate(zip(*columns.values(), strict=True))
    ]
    columns |= {"text": [text for text, _ in spoiled], "label": [label for _, label in spoiled]}
    second = advise(write_csv(folder / "rows.csv", columns), bert, capsys, "--split", "part")
    for part in ("learned", "noise"):
        assert first["measured"][part] == second["measured"][part]
    assert first["measured"]["facts"]["labels"] == second["measured"]["facts"]["labels"]
    assert first["measured"]["learned"]["judged"] == first["measured"]["facts"]["parts"]["train"] == 210


def sums(n: int) -> tuple[list[str], list[str]]:
    """Texts whose label needs reckoning: whether three numbers add up to an even one."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(10, 1000, (n, 3))
    texts = [f"Invoice {i}: {a}, {b} and {c} crowns were paid at the harbour." for i, (a, b, c) in enumerate(numbers)]
    return texts, ["even" if total % 2 == 0 else "odd" for total in numbers.sum(axis=1)]


def reckoning(handler: Any, body: dict[str, Any]) -> None:
    """Add up where there is room to reason; guess by the first number where there is none."""
    numbers = [int(word.strip(",:")) for word in text_of(body).split() if word.strip(",:").isdigit()][1:]
    total = sum(numbers) if is_reasoned(body) else numbers[0]
    reply = {"label": "even" if total % 2 == 0 else "odd", "confidence": 0.9}
    answer(json.dumps(({"rationale": "They add up."} if is_reasoned(body) else {}) | reply))(handler, body)


@pytest.mark.slow
def test_where_chain_of_thought_wins_the_task_needs_reasoning_and_a_full_store_shows_it_too(
    bert: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, labels = sums(400)
    data = write_csv(folder / "sums.csv", {"text": texts, "label": labels, "gold": labels})
    words = ["--gold", "gold", "--pilot-rows", "60", "--set", "teacher.model=judge"]
    with MessagesServer(reckoning) as server:
        live = advise(data, bert, capsys, *words, "--set", f"teacher.base_url={server.url}")
        n_asked = len(server.bodies)
    assert n_asked == 120
    assert live["decision"]["verdict"] == "decoder_student"
    last = live["decision"]["path"][-1]
    assert (last["question"], last["answer"]) == ("does the task need reasoning in several steps?", "yes")
    assert live["measured"]["teacher"]["reasoning_p"] < 0.001
    # The server is gone: the answers that were recorded in the store speak for it.
    recorded = advise(data, bert, capsys, *words, "--set", f"teacher.base_url={server.url}", "--name", "sums")
    assert recorded["decision"] == live["decision"]
    recipe = read_recipe(folder / live["recipe"])
    assert (recipe.teacher.model, recipe.verify.answer, recipe.decoder.model) == ("judge", "reasoned", "student")


@pytest.mark.slow
def test_where_few_rows_are_trusted_the_teacher_is_judged_by_calibration_rows_and_no_test_row_is_asked(
    bert: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, gold = texts_and_gold(400)
    some = [label if i % 3 == 0 else "" for i, label in enumerate(gold)]
    data = write_csv(folder / "some.csv", {"text": texts, "label": noisy(gold, 0.2), "gold": some})
    words = ["--gold", "gold", "--set", "teacher.model=judge", "--name", "some"]
    with MessagesServer(knowing) as server:
        found = advise(data, bert, capsys, *words, "--set", f"teacher.base_url={server.url}")
        asked = {text_of(body) for body in server.bodies}
    recipe = read_recipe(folder / found["recipe"])
    rows = load_data(recipe.data, folder=folder / "recipes/some", seed=0, fetch=fetch, labels=recipe.labels).rows
    part_of = {row.text: row.part for row in split(rows, sorted(recipe.labels), recipe.split, seed=0).rows}
    assert {part_of[text] for text in asked} == {"calibration"}
    assert found["measured"]["teacher"]["rows"] == len(asked) >= 30
    assert found["measured"]["noise"]["n_counted"] == len(asked)
    assert found["measured"]["teacher"]["ways"][0]["accuracy"]["value"] == 1.0


def knowing(handler: Any, body: dict[str, Any]) -> None:
    """Know the dish's words."""
    text = text_of(body)
    label = next(name for name, words in WORDS.items() if any(word in text for word in words))
    reply = {"label": label, "confidence": 0.9}
    answer(json.dumps(({"rationale": "Its words."} if is_reasoned(body) else {}) | reply))(handler, body)


@pytest.mark.slow
def test_a_teacher_with_a_price_is_asked_within_a_budget_alone(
    bert: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, labels = sums(300)
    data = write_csv(folder / "sums.csv", {"text": texts, "label": labels, "gold": labels})
    (folder / "prices.toml").write_text("[models]\njudge = { input = 1.0, output = 5.0 }\n")
    words = ["--gold", "gold", "--pilot-rows", "40", "--set", "teacher.model=judge"]
    words += ["--set", f"teacher.prices={folder / 'prices.toml'}"]
    with MessagesServer(reckoning) as server:
        words += ["--set", f"teacher.base_url={server.url}"]
        found = advise(data, bert, capsys, *words)
        assert server.bodies == []
        low, high = found["measured"]["teacher"]["usd"]
        assert 0 < low < high
        assert f"add --budget {high:.2f}" in found["screen"]
        asked = advise(data, bert, capsys, *words, "--budget", "5")
        assert len(server.bodies) == 80
    assert asked["measured"]["teacher"]["ways"][0]["usd_per_million"] == pytest.approx(100 * 1.0 + 20 * 5.0)


@pytest.mark.slow
def test_the_tweets_call_for_an_encoder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        fetch("all-MiniLM-L6-v2")
    except ArtifactError as error:
        pytest.skip(str(error))
    path = find_recipe("sentiment")
    recipe = read_recipe(path)
    rows = load_data(recipe.data, folder=path.parent, seed=0, fetch=fetch, labels=recipe.labels).rows
    columns = {
        "text": [row.text for row in rows],
        "label": [row.label or "" for row in rows],
        "gold": [row.gold or "" for row in rows],
    }
    data = write_csv(folder / "tweets.csv", columns)
    words = ["--gold", "gold", "--rows", "250", "--p95", "2s", "--per-day", "1e5"]
    found = advise(data, Path("packaged:all-MiniLM-L6-v2"), capsys, *words)
    measured = found["measured"]
    assert found["decision"]["verdict"] == "fine_tuned_encoder"
    assert measured["learned"]["encoder"]["low"] > measured["learned"]["majority"] - 0.05
    assert 0.15 < measured["noise"]["counted"]["value"] < 0.25
    assert measured["speed"]["ms"] > 0
    assert "name one with --teacher" in measured["teacher"]["remedy"]
    assert "USD a day" in found["screen"]
    assert read_recipe(folder / found["recipe"]).teacher.model == "none"


SURE = Estimate(value=0.7, low=0.65, high=0.75)
FACTS = Facts(
    rows=1000,
    parts={"train": 600, "calibration": 150, "test": 250},
    labels={"bad": 300, "good": 300},
    near_duplicates=0,
    leaks=0,
    trusted=200,
)
PLAIN = Measured(
    facts=FACTS,
    noise=Noise(estimated=0.1, counted=None, n_counted=0, signal=0.8, signal_p=1e-9),
    learned=Learned(
        judged_by="given", judged=600, majority=0.5, tfidf=SURE, encoder=SURE, encoder_name="e", curve=[], further=None
    ),
    speed=EncoderSpeed(ms=5.0, p95_ms=8.0, usd_per_million=0.1),
    decoders=[],
    teacher=NotMeasured(why="no teacher was named", remedy="name one"),
)


def taught(direct: float, reasoned: float, *, reasoning_p: float, beats_p: float, ms: float = 900.0) -> Measured:
    ways = [
        TeacherWay(
            answer=name,
            accuracy=share_interval(round(200 * share), 200),
            beats_encoder_p=beats_p,
            ms=ms,
            usd_per_million=100.0,
        )
        for name, share in (("direct", direct), ("reasoned", reasoned))
    ]
    teacher = Teacher(model="m", rows=200, encoder_right=0.7, ways=ways, reasoning_p=reasoning_p)
    return replace(PLAIN, teacher=teacher)


GOOD = taught(0.9, 0.91, reasoning_p=0.4, beats_p=1e-6)
NO_SIGNAL = replace(PLAIN.noise, signal=0.5, signal_p=0.6)
MOSTLY_WRONG = replace(PLAIN.noise, counted=share_interval(120, 200), n_counted=200)


@pytest.mark.parametrize(
    ("measured", "wishes", "verdict"),
    [
        (PLAIN, Wishes(), "fine_tuned_encoder"),
        (PLAIN, Wishes(explain=True), "decoder_student"),
        (GOOD, Wishes(), "cascade"),
        (GOOD, Wishes(p95_ms=50), "fine_tuned_encoder"),
        (taught(0.7, 0.71, reasoning_p=0.4, beats_p=0.4), Wishes(), "fine_tuned_encoder"),
        (taught(0.6, 0.9, reasoning_p=1e-6, beats_p=1e-6), Wishes(), "decoder_student"),
        (taught(0.6, 0.7, reasoning_p=1e-3, beats_p=0.4), Wishes(), "fine_tuned_encoder"),
        (replace(PLAIN, noise=NO_SIGNAL), Wishes(), "not_yet"),
        (replace(GOOD, noise=NO_SIGNAL), Wishes(), "cascade"),
        (replace(PLAIN, noise=MOSTLY_WRONG), Wishes(), "not_yet"),
        (replace(GOOD, noise=MOSTLY_WRONG), Wishes(), "llm_with_examples"),
        (replace(PLAIN, facts=replace(FACTS, parts={"train": 60})), Wishes(), "llm_with_examples"),
        (replace(GOOD, facts=replace(FACTS, parts={"train": 60})), Wishes(p95_ms=50), "not_yet"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_tree_takes_the_branch_that_the_numbers_call_for(
    measured: Measured, wishes: Wishes, verdict: Verdict
) -> None:
    decision = decide(measured, wishes)
    assert decision.verdict == verdict
    assert decision.path[-1].leads_to == VERDICTS[verdict]
    assert all(not question.leads_to for question in decision.path[:-1])
    assert all(question.number for question in decision.path)


def test_further_labels_are_worth_what_the_power_law_says() -> None:
    curve = {n: 1 - 2.0 * n**-0.5 for n in (100, 200, 400, 800)}
    worth = worth_of([curve, curve, curve], 500)
    assert worth is not None
    assert worth.value == pytest.approx(2.0 * (800**-0.5 - 1300**-0.5))
    flat = worth_of([dict.fromkeys((100, 200, 400, 800), 0.7)] * 3, 500)
    assert flat is not None
    assert flat.value == pytest.approx(0.0)
    assert worth_of([{100: 0.5}], 500) is None


def random_labels(seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    yield from (rng.choice(3, 300, p=(0.7, 0.2, 0.1)) for _ in range(2))


def test_labels_by_chance_have_no_signal_however_uneven_they_are() -> None:
    by_chance = [signal_of(*random_labels(seed), n_labels=3)[1] for seed in range(40)]
    assert np.mean(np.array(by_chance) < 0.05) < 0.2
    targets, _ = random_labels(0)
    recall, p = signal_of(targets, targets, 3)
    assert recall == 1.0
    assert p < 1e-6


@pytest.mark.parametrize(("text", "ms"), [("50ms", 50.0), ("1.5s", 1500.0), (" 2 s", 2000.0)])
def test_times_are_read(text: str, ms: float) -> None:
    assert duration_ms(text) == ms


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rows.csv", "--label", "label", "--p95", "fast"], "argument --p95: expected a time such as 50ms or 1.5s"),
        (["rows.csv", "--label", "label", "--per-day", "-1"], "argument --per-day: expected a number above 0"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["advise", *words])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_the_documentation_has_every_threshold() -> None:
    page = (CHECKOUT / "docs" / "advise.md").read_text()
    assert all(
        f"| `{name}` | {threshold.value:g} | {threshold.reason} |" in page for name, threshold in THRESHOLDS.items()
    )
    assert all(verdict in page for verdict in VERDICTS.values())
    assert f"{MOST_ROWS:,} training rows" in page
    assert f"{CORE_USD_PER_HOUR} USD" in page
