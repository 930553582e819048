"""hybrid why: a receipt for every row that says what was asked, what it cost, who decided, and what it came to."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hybrid.__main__ import main
from hybrid.commands.open_run import open_run, shared_folder
from hybrid.config import LLMConfig, VerifyConfig
from hybrid.errors import DataError, StorageError
from hybrid.files.table import read_rows, write_json, write_rows
from hybrid.llm import CachedLLM, key
from hybrid.llm.client.messages import Messages
from hybrid.llm.cost.ledger import NullLedger
from hybrid.llm.cost.prices import Price
from hybrid.llm.cost.pricing import Pricing
from hybrid.llm.tasks.label import label_request
from hybrid.llm.traces.export import stored_answers
from hybrid.prompts import text_hash
from hybrid.provenance.build import read_receipts, receipt_of
from hybrid.provenance.rows import Receipt
from hybrid.report.cards import Tally, render_data_card, tally
from hybrid.teacher.vote_collection import Teacher, collect_votes
from hybrid.types import Decision, Draft, Example, Vote
from tests.messages_server import Act, MessagesServer, answer, label, status

LABELS = ("bad", "good", "plain")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run with its project around it."""
    return Path(shutil.copytree(finished.parents[2], tmp_path / "project")) / "runs/dishes/default"


def train_rows(run: Path) -> list[Example]:
    return [row for row in read_rows(run / "split/rows.jsonl", Example) if row.part == "train"]


def ask(run: Path, n_rows: int, *acts: Act) -> list[Example]:
    """Have a live teacher vote on the first rows of a finished run, as its verify stage would; return them."""
    rows, config = train_rows(run)[:n_rows], LLMConfig(model="judge", base_url="http://127.0.0.1:9", workers=1)
    with MessagesServer(*acts) as server:
        books = NullLedger(Pricing(model="judge", price=Price(input=1.0, output=5.0)))
        judge = Messages("judge", base_url=server.url, ledger=books)
        teacher = CachedLLM(judge, run.parent / "traces.sqlite")
        asked = Teacher(llm=teacher, config=config, policy="Judge the dish.")
        found = collect_votes(rows, LABELS, VerifyConfig(), teacher=asked)
        teacher.close()
    write_rows(run / "verify/votes.jsonl", found.votes)
    write_json(run / "verify/report.json", found.report | {"policy": text_hash("Judge the dish.")})
    return rows


def receipts(run: Path) -> dict[str, Receipt]:
    return {receipt.id: receipt for receipt in read_receipts(open_run(run))}


def decide(run: Path, **changes: Any) -> Decision:
    """Change the first decision of a run; return it."""
    path = run / "clean/decisions.jsonl"
    first, *others = read_rows(path, Decision)
    changed = msgspec.structs.replace(first, **changes)
    write_rows(path, [changed, *others])
    return changed


pytestmark = pytest.mark.slow


def test_a_vote_is_priced_and_names_the_question_that_it_answers(run: Path) -> None:
    row, other = ask(run, 2, label("good", 0.8), label("bad", 0.6))
    found = receipts(run)
    (vote,) = found[row.id].votes
    request = label_request("verify", row.text, LABELS, LLMConfig(), policy="Judge the dish.")
    assert vote.key == key("judge", request)
    assert vote.prompt == text_hash(request.system)
    assert found[row.id].policy == text_hash("Judge the dish.")
    assert (vote.label, vote.confidence, vote.rationale) == ("good", 0.8, "It says so.")
    assert (vote.input_tokens, vote.output_tokens) == (100, 20)
    assert vote.cost_usd == pytest.approx((100 * 1 + 20 * 5) / 1e6)
    assert not vote.recorded
    assert found[other.id].votes[0].prompt == vote.prompt


def test_a_vote_that_failed_has_no_price_and_says_why(run: Path) -> None:
    row, _ = ask(run, 2, status(413, "too long"), label("bad"))
    (vote,) = receipts(run)[row.id].votes
    assert (vote.status, vote.label, vote.key, vote.cost_usd) == ("failed", None, "", None)
    assert "too long" in vote.reason


def test_a_vote_that_was_asked_for_again_with_reasoning_has_its_price_too(run: Path) -> None:
    row, *_ = ask(run, 1, label("good", 0.8))
    votes = read_rows(run / "verify/votes.jsonl", Vote)
    write_rows(run / "verify/votes.jsonl", [msgspec.structs.replace(votes[0], reasoned=True), *votes[1:]])
    (vote,) = receipts(run)[row.id].votes
    assert vote.teacher == "judge, reasoned"
    assert vote.cost_usd == pytest.approx((100 * 1 + 20 * 5) / 1e6)


def test_an_answer_under_an_earlier_policy_is_not_taken_for_the_vote(run: Path) -> None:
    row = train_rows(run)[0]
    with MessagesServer(answer(json.dumps({"rationale": "Old.", "label": "plain", "confidence": 0.5}))) as server:
        earlier = CachedLLM(Messages("judge", base_url=server.url), run.parent / "traces.sqlite")
        earlier.ask(label_request("verify", row.text, LABELS, LLMConfig(), policy="Another."))
        earlier.close()
    ask(run, 1, label("good"))
    (vote,) = receipts(run)[row.id].votes
    assert (vote.label, vote.rationale) == ("good", "It says so.")
    assert vote.prompt == text_hash(label_request("verify", "t", LABELS, LLMConfig(), policy="Judge the dish.").system)


def test_a_vote_of_an_old_table_names_no_answer_and_the_printed_story_says_so(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row, *_ = ask(run, 1, label("good", 0.8))
    table = run / "verify/votes.jsonl"
    old = json.loads(table.read_text())
    assert old.pop("trace_key")
    table.write_text(json.dumps(old | {"teacher": "judge, reasoned"}) + "\n")
    (vote,) = receipts(run)[row.id].votes
    assert (vote.teacher, vote.label, vote.key, vote.cost_usd) == ("judge, reasoned", "good", "", None)
    assert main(["why", str(run), row.id]) == 0
    assert "collected by a version that recorded no key" in capsys.readouterr().out


def test_a_vote_whose_answer_the_store_lost_keeps_its_key(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row, *_ = ask(run, 1, label("good", 0.8))
    (run.parent / "traces.sqlite").unlink()
    (vote,) = receipts(run)[row.id].votes
    assert (vote.model, vote.cost_usd) == ("", None)
    assert main(["why", str(run), row.id]) == 0
    assert f"the trace store has no answer under key {vote.key[:12]}" in capsys.readouterr().out


def test_who_changed_a_label_is_said(run: Path) -> None:
    rows = ask(run, 1, label("good"))
    given = rows[0].label
    changed = next(name for name in LABELS if name != given)
    with (run / "verify/votes.jsonl").open() as file:
        vote = json.loads(file.readline())
    (run / "verify/votes.jsonl").write_text(json.dumps(vote | {"label": changed}) + "\n")
    decide(run, label=changed, action="relabel")
    method = json.loads((run / "clean/report.json").read_text())["method"]
    by = receipts(run)[rows[0].id].changed_by
    assert by[:2] == [method, "judge#0"]
    (run.parent / "trusted.jsonl").write_text(
        json.dumps({"id": rows[0].id, "label": changed, "source": "review"}) + "\n"
    )
    assert receipts(run)[rows[0].id].changed_by == ["trusted (review)"]


def test_a_row_that_judges_has_what_the_bundle_says_and_no_vote(finished: Path) -> None:
    judged = [json.loads(line) for line in (finished / "evaluate/judged.jsonl").open()]
    found = receipts(finished)
    for row in judged:
        receipt = found[row["id"]]
        assert receipt.served is not None
        assert (receipt.part, receipt.votes, receipt.action) == ("test", [], None)
        assert receipt.served.label == row["label"]
        assert receipt.served.confidence == pytest.approx(row["confidence"], abs=1e-5)
        assert receipt.served.right == (row["label"] == row["gold"])
    assert all(receipt.served is None for receipt in found.values() if receipt.part == "train")


def test_every_row_has_one_receipt_and_gold_of_training_rows_is_in_none(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(run / "synthesize/drafts.jsonl", [Draft(id="draft/1", text="Dull.", label="plain", status="refused")])
    path = tmp_path / "receipts.jsonl"
    assert main(["why", str(run), "--all", str(path)]) == 0
    lines = [json.loads(line) for line in path.open()]
    ids = [row.id for row in read_rows(run / "split/rows.jsonl", Example)]
    assert [line["id"] for line in lines] == [*ids, "draft/1"]
    assert f"{len(ids) + 1} receipts" in capsys.readouterr().out
    gold = {row["id"]: row["label"] for row in map(json.loads, (run / "split/gold.jsonl").open())}
    wrong = [
        line for line in lines if line["part"] == "train" and line["id"] in gold and line["given"] != gold[line["id"]]
    ]
    assert len(wrong) > 10
    assert all(line["label"] == line["given"] and "gold" not in line for line in wrong)
    weights = sum(line["weight"] for line in lines if line["action"])
    assert weights == sum(d.weight for d in read_rows(run / "clean/decisions.jsonl", Decision))


def test_the_story_is_printed_line_by_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = ask(run, 1, label("good", 0.8))[0]
    decide(run, label="plain", action="relabel", weight=0.5, reason="because")
    assert main(["why", str(run), row.id]) == 0
    said = capsys.readouterr().out
    for part in (row.text, "given label", "judge#0", "good, confidence 0.80", "It says so.", "100 tokens in, 20 out"):
        assert part in said
    assert f"relabel: {row.label} -> plain" in said
    assert "training weight    0.5" in said
    assert "classifier" in said


def test_a_draft_has_a_story_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = train_rows(run)[0]
    draft = Draft(id="draft/1", text="Dull.", label="plain", plan="A dull dish.", parents=(row.id,), status="refused", reason="near-copy")  # fmt: skip
    write_rows(run / "synthesize/drafts.jsonl", [draft])
    assert main(["why", str(run), "draft/1"]) == 0
    said = capsys.readouterr().out
    assert "refused (near-copy)" in said
    assert row.id in said
    assert main(["why", str(run), row.id]) == 0
    assert "drafts from it     draft/1" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "said"), [(["nobody"], "no row 'nobody'"), ([], "expected exactly one")])
def test_what_cannot_be_told_is_said(
    words: list[str], said: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["why", str(finished), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "traces.sqlite").write_text("no database at all, but long enough to be read as one")
    with pytest.raises(StorageError, match="not a trace store"):
        stored_answers(tmp_path / "traces.sqlite", ["k"])
    assert stored_answers(tmp_path / "nothing.sqlite", ["k"]) == {}


def test_a_further_seeds_run_shares_the_store_of_the_first(run: Path) -> None:
    (run / "seed-1").mkdir()
    assert shared_folder(run / "seed-1") == shared_folder(run) == run.parent


def card_of(run: Path) -> tuple[str, Tally]:
    story = open_run(run)
    counts = tally(read_receipts(story))
    summary = json.loads((run / "summary.json").read_text())
    return render_data_card(story, counts, summary, made_from="here"), counts


def test_the_tally_adds_up_to_the_rows(run: Path) -> None:
    ask(run, 3, status(413), label("good"), label("bad"))
    _, counts = card_of(run)
    n_train = len(train_rows(run))
    assert sum(counts.given.values()) == sum(counts.actions.values()) == n_train
    (teacher,) = counts.teachers
    assert teacher.votes == {"failed": 1, "ok": 2}
    assert (teacher.priced, teacher.tokens) == (2, 240)
    assert teacher.cost_usd == pytest.approx(2 * (100 * 1 + 20 * 5) / 1e6)


def test_the_data_card_says_who_voted_under_which_policy_at_what_cost(run: Path) -> None:
    ask(run, 3, label("good"))
    card, counts = card_of(run)
    assert "judge: 3 ok votes" in card
    assert "$0.0006 for the 3 votes whose price is known" in card
    assert text_hash("Judge the dish.") in card
    assert counts.teachers[0].prompts[0] in card
    assert f"| train | {len(train_rows(run))} |" in card


def test_a_bundle_has_a_data_card_beside_its_model_card(finished: Path) -> None:
    card = (finished / "bundle/data-card.md").read_text()
    assert "No teacher voted." in card
    assert "No training label is trusted" in card
    assert "\n\n\n" not in card.replace("\n\n\n|", "\n\n|")


def test_tokens_of_the_cache_are_in_the_receipt(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def cached(handler: Any, body: dict[str, Any]) -> None:
        usage = {
            "input_tokens": 7,
            "output_tokens": 20,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 93,
        }
        said = {"type": "text", "text": json.dumps({"rationale": "So.", "label": "good", "confidence": 0.8})}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [said]}
        handler.send(200, json.dumps(message | {"stop_reason": "end_turn", "stop_sequence": None, "usage": usage}))

    row = ask(run, 1, cached)[0]
    decide(run, label="plain", action="keep", weight=1.0, reason="because")
    assert main(["why", str(run), row.id]) == 0
    assert "7 tokens in, 93 read from the cache, 20 out" in capsys.readouterr().out


@pytest.mark.slow
def test_a_row_is_found_by_file_and_line_and_its_receipt_says_them(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in (run / "split/rows.jsonl").open()]
    row = rows[7]
    lines = (run.parents[2] / "dishes/data.csv").read_text().splitlines()
    name, _, number = row["where"].partition(":")
    assert name == "data.csv"
    assert row["text"] in lines[int(number) - 1].replace('"', "")
    assert main(["why", str(run), row["where"]]) == 0
    assert capsys.readouterr().out.startswith(f"{row['id']}, {row['where']}: {row['part']} row")
    receipts = [Receipt(id="a", where="../my data.csv:3", text="t", part="train", origin="given", given="good")]
    assert receipt_of(receipts, "my data.csv:3", run) == receipts[0]
    with pytest.raises(DataError, match=r"no row 'data\.csv:3'"):
        receipt_of(receipts, "data.csv:3", run)
    assert main(["why", str(run), "data.csv:9999"]) == 2
    assert f"or a place such as '{rows[0]['where']}'" in capsys.readouterr().err
