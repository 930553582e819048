"""hybrid pilot: every way is asked on trusted rows, priced, judged by a stated rule, and its answers are kept."""

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from hybrid.__main__ import main
from hybrid.artifacts import fetch
from hybrid.commands.open_run import RecipeArguments, open_recipe, teacher_inputs
from hybrid.config import LLMConfig
from hybrid.errors import ArtifactError
from hybrid.evaluation.intervals import Estimate
from hybrid.files.table import write_json
from hybrid.llm import Reply, open_llm
from hybrid.progress import Screen
from hybrid.stages.verify import VERIFY, teacher_votes
from hybrid.teacher.pilot.baseline_curve import Baseline, Point, adds_information_p, equivalent_rows
from hybrid.teacher.pilot.choose import choose
from hybrid.teacher.pilot.compare import Piloted, pilot_rows
from hybrid.teacher.pilot.measure import Measured, Trial
from hybrid.teacher.pilot.strategies import Answers, PromptStrategy, ask_strategies, combine_votes, strategies_of
from hybrid.teacher.pilot.table import print_pilot
from hybrid.teacher.policy import PolicyReceipt
from hybrid.types import Example, Vote
from tests.conftest import write_project
from tests.corpus import LABELS, WORDS
from tests.messages_server import MessagesServer, answer

SURE = Estimate(value=0.5, low=0.4, high=0.6)


def at_hand(right: np.ndarray, agrees: np.ndarray | None = None) -> Baseline:
    return Baseline(
        given=SURE,
        tfidf=Estimate(value=0.8, low=0.7, high=0.9),
        rows=800,
        curve=[Point(rows=100, accuracy=0.5), Point(rows=200, accuracy=0.6), Point(rows=400, accuracy=0.7)],
        given_right=right,
        tfidf_right=right,
        tfidf_agrees=np.ones_like(right) if agrees is None else agrees,
    )


def trial(
    right: np.ndarray, *, answer: str = "reasoned", cost: float | None = 0.01, beats: float = 0.01, adds: float = 1.0
) -> Trial:
    measured = Measured(
        model="m",
        answer=answer,  # type: ignore[arg-type]
        votes=1,
        answered=1.0,
        accuracy=Estimate(value=float(right.mean()), low=0.0, high=1.0),
        auroc_confidence=None,
        auroc_share=None,
        tokens_a_row=100.0,
        cost_usd_a_row=cost,
        cost_usd_job=cost,
        seconds_a_row=1.0,
        seconds_job=1.0,
        worth_rows=None,
        beats_given_p=beats,
        adds_information_p=adds,
    )
    return Trial(measured=measured, right=right)


def first(n_right: int) -> np.ndarray:
    return np.arange(100) < n_right


def test_the_cheapest_way_that_is_not_significantly_worse_is_taken() -> None:
    dear = trial(first(90), cost=0.02)
    assert choose([trial(first(87), answer="direct"), dear]).way == PromptStrategy(model="m", answer="direct", votes=1)
    choice = choose([trial(first(80), answer="direct"), dear])
    assert choice.way == dear.measured.strategy
    assert choice.below_best_p["m: direct"] == pytest.approx(2**-10)


def test_a_teacher_that_neither_beats_the_labels_nor_adds_to_them_is_not_asked() -> None:
    choice = choose([trial(first(60), beats=0.4, adds=0.6)])
    assert not choice.ask
    assert "neither beats the given labels" in choice.reason
    assert choose([trial(first(60), beats=0.4, adds=0.01)]).ask


def test_the_equivalent_rows_are_read_off_the_learning_curve() -> None:
    found = at_hand(first(80))
    assert equivalent_rows(0.6, found) == 200
    assert equivalent_rows(0.65, found) == round(float(np.sqrt(200 * 400)))
    assert equivalent_rows(0.2, found) == 100
    assert equivalent_rows(0.81, found) is None


def test_answers_that_follow_the_error_add_information_and_answers_by_chance_do_not() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(200) < 0.7
    given = ["a"] * 200
    knowing = ["a" if r or rng.random() < 0.3 else "b" for r in right]
    guessing = ["a" if rng.random() < 0.6 else "b" for _ in right]
    sure = np.full(200, 0.9)
    assert adds_information_p(knowing, sure, given, at_hand(right)) < 0.001
    assert adds_information_p(guessing, sure, given, at_hand(right)) > 0.05


def test_votes_are_counted_and_a_tie_goes_to_the_surest() -> None:
    def vote(label: str | None, confidence: float | None = None) -> Vote:
        return Vote(id="r", status="ok" if label else "failed", label=label, confidence=confidence, teacher="t")

    rows = [
        [vote("bad", 0.6), vote("good", 0.9), vote("bad", 0.8)],
        [vote("bad", 0.6), vote("good", 0.9), vote(None)],
        [vote(None), vote(None), vote(None)],
    ]
    way = PromptStrategy(model="t", answer="reasoned", votes=3)
    said = combine_votes(Answers(strategy=way, votes=rows, replies=[[Reply(status="ok", model="t")]] * 3))
    assert said.labels == ["bad", "good", None]
    assert said.confidence == pytest.approx([0.7, 0.9, np.nan], nan_ok=True)
    assert said.share == pytest.approx([2 / 3, 1 / 3, np.nan], nan_ok=True)


def test_a_recorded_teacher_answered_one_way() -> None:
    assert strategies_of(LLMConfig(model="recorded"), 3) == [
        PromptStrategy(model="recorded", answer="reasoned", votes=1)
    ]
    assert [way.name for way in strategies_of(LLMConfig(model="m", base_url="http://m"), 3)] == [
        "direct",
        "chain of thought",
        "chain of thought, 3 votes",
    ]


def text_of(body: dict[str, Any]) -> str:
    fenced = re.search(r"<(text-\w+)>\n(.*?)\n</\1>", body["messages"][0]["content"], re.DOTALL)
    assert fenced, body
    return fenced[2]


def is_reasoned(body: dict[str, Any]) -> bool:
    return "rationale" in body["output_config"]["format"]["schema"]["properties"]


def judge(handler: Any, body: dict[str, Any]) -> None:
    """Know the dish's words; without reasoning, be wrong on every fourth table and unsure there."""
    text = text_of(body)
    label = next(name for name, words in WORDS.items() if any(word in text for word in words))
    slips = not is_reasoned(body) and int(re.findall(r"\d+", text)[-1]) % 4 == 0
    said = {"label": LABELS[LABELS.index(label) - 1] if slips else label, "confidence": 0.6 if slips else 0.9}
    said |= {"rationale": "Its words."} if is_reasoned(body) else {}
    answer(json.dumps(said), tokens=(100, 40 if is_reasoned(body) else 10))(handler, body)


def ignorant(handler: Any, body: dict[str, Any]) -> None:
    """Answer by the length of the text, never the same confidence."""
    text = text_of(body)
    said = {"label": LABELS[len(text) % 3], "confidence": sum(map(ord, text)) % 100 / 100}
    answer(json.dumps({"rationale": "r"} | said if is_reasoned(body) else said))(handler, body)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = write_project(tmp_path / "dishes", tmp_path / "no-encoder").parent
    (folder / "prices.toml").write_text("[models]\njudge = { input = 1.0, output = 5.0 }\n")
    return folder


def pilot(project: Path, url: str, *words: str) -> int:
    settings = (f"teacher.base_url={url}", "teacher.model=judge", "teacher.prices=prices.toml", "data.trusted=90")
    sets = [word for setting in settings for word in ("--set", setting)]
    return main(["pilot", str(project), "--runs", str(project / "runs"), *sets, *words])


@pytest.mark.slow
def test_the_command_compares_the_ways_prices_them_and_asks_nothing_twice(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with MessagesServer(judge) as server:
        assert pilot(project, server.url, "--rows", "80") == 0
        asked = len(server.bodies)
        assert pilot(project, server.url, "--rows", "80") == 0
        assert (
            len(server.bodies) == asked == 80 * 4
        )  # direct once, three reasoned samples of which the first serves twice
    found = json.loads((project / "runs/dishes/default/pilot.json").read_text())
    direct, reasoned, voted = found["ways"]
    assert (found["rows"], found["trusted"]) == (80, {"gold": 80})
    assert direct["accuracy"]["value"] < 0.85
    assert direct["auroc_confidence"]["value"] == 1.0  # it is unsure exactly where it slips
    assert reasoned["accuracy"]["value"] == voted["accuracy"]["value"] == 1.0
    assert reasoned["auroc_confidence"] is None  # nothing is wrong, so nothing can be ranked below
    assert direct["cost_usd_a_row"] == pytest.approx((100 * 1 + 10 * 5) / 1e6)
    assert reasoned["cost_usd_job"] == pytest.approx((100 * 1 + 40 * 5) / 1e6 * found["train_rows"])
    assert voted["cost_usd_a_row"] == pytest.approx(3 * reasoned["cost_usd_a_row"])
    assert found["choice"]["ask"]
    assert found["choice"]["way"] == {"model": "judge", "answer": "reasoned", "votes": 1}
    said = capsys.readouterr().out
    assert "choice: judge: chain of thought\n" in said
    assert '--set verify.answer="reasoned" --set verify.votes=1' in said


@pytest.mark.slow
def test_a_run_that_follows_finds_the_pilots_answers(project: Path) -> None:
    with MessagesServer(judge) as server:
        assert pilot(project, server.url, "--rows", "40", "--votes", "1") == 0
        asked = len(server.bodies)
        settings = (f"teacher.base_url={server.url}", "teacher.model=judge", "data.trusted=90")
        for answer_as in ("reasoned", "direct"):
            words = (*settings, f"verify.answer={answer_as}")
            with open_recipe(RecipeArguments(recipe=str(project), runs=project / "runs", settings=words)) as story:
                rows = pilot_rows(teacher_inputs(story), 40)
                votes = teacher_votes(story.io(VERIFY), rows).votes
            assert [vote.status for vote in votes] == ["ok"] * 40
            assert all(bool(vote.rationale) == (answer_as == "reasoned") for vote in votes)
        assert len(server.bodies) == asked == 80


@pytest.mark.slow
def test_rows_that_taught_the_policy_do_not_judge_the_teacher(project: Path) -> None:
    asked = RecipeArguments(recipe=str(project), runs=project / "runs", settings=("data.trusted=90",))
    with open_recipe(asked) as story:
        taught = tuple(row.id for row in story.trusted()[:30])
        receipt = PolicyReceipt(
            file="policy.md",
            policy="",
            prompt="",
            model="m",
            source="trusted",
            rows=taught,
            input_tokens=0,
            output_tokens=0,
            cost_usd=None,
            seconds=0.0,
        )
        write_json(project / "runs/dishes/policy.json", receipt)
        rows = pilot_rows(teacher_inputs(story), 200)
    assert len(rows) == 60
    assert not {row.id for row in rows} & set(taught)


@pytest.mark.slow
def test_a_small_model_in_the_process_answers_both_ways() -> None:
    pytest.importorskip("xllamacpp")
    config = LLMConfig(model="local", max_tokens=60, workers=2)
    try:
        fetch("smollm2-135m-instruct")
    except ArtifactError as error:
        pytest.skip(str(error))
    local = open_llm(config, role="teacher")
    assert local is not None
    rows = [Example(id="1", text="The soup was superb.", label="good")]
    found = ask_strategies(
        rows, LABELS, strategies_of(config, 1), teacher=local, llm=config, policy="", on_done=lambda done, total: None
    )
    direct, reasoned = (combine_votes(answers) for answers in found)
    assert all(label in LABELS for label in (*direct.labels, *reasoned.labels))
    spent = [sum(reply.output_tokens for of_row in answers.replies for reply in of_row) for answers in found]
    assert spent[0] < spent[1]


@pytest.mark.slow
def test_a_teacher_that_knows_nothing_is_not_worth_its_price(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with MessagesServer(ignorant) as server:
        assert pilot(project, server.url, "--votes", "1") == 0
    found = json.loads((project / "runs/dishes/default/pilot.json").read_text())
    assert not found["choice"]["ask"]
    assert all(way["worth_rows"] < found["tfidf_rows"] for way in found["ways"])
    said = capsys.readouterr().out
    assert "choice: do not ask" in said
    assert "its labels are worth fewer than the" in said


@pytest.mark.slow
def test_too_few_trusted_rows_are_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pilot(project, "http://127.0.0.1:9", "--set", "data.trusted=10") == 2
    assert "10 trusted rows; expected 30 or more" in capsys.readouterr().err


@pytest.mark.slow
def test_models_are_compared_in_one_table(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with MessagesServer(judge) as server:
        assert pilot(project, server.url, "--rows", "40", "--votes", "1", "--models", "judge,other") == 0
    found = json.loads((project / "runs/dishes/default/pilot.json").read_text())
    assert [(way["model"], way["cost_usd_a_row"] is None) for way in found["ways"]] == [
        ("judge", False),
        ("judge", False),
        ("other", True),
        ("other", True),
    ]
    assert "unknown" in capsys.readouterr().out


def test_a_pilot_is_printed_in_plain_columns() -> None:
    measured = [trial(first(90)).measured, trial(first(60), answer="direct", cost=None).measured]
    piloted = Piloted(
        recipe="dishes",
        rows=100,
        trusted={"audit": 100},
        train_rows=1000,
        policy="",
        prompts={},
        given=SURE,
        tfidf=SURE,
        tfidf_rows=800,
        curve=[Point(rows=100, accuracy=0.5)],
        ways=measured,
        choice=choose([trial(first(90))]),
        not_asked=[],
    )
    assert msgspec.json.decode(msgspec.json.encode(piloted), type=Piloted) == piloted
    printed = StringIO()
    print_pilot(piloted, Screen(printed))
    assert "choice: m: chain of thought" in printed.getvalue()
    assert "unknown" in printed.getvalue()
