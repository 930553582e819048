"""Answers go out of a store and into another as they are; labels from elsewhere come in as votes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import hybrid.__main__ as command
from hybrid.errors import DataError
from hybrid.llm import CachedLLM, Request, ask_all, key
from hybrid.llm.client.messages import Messages
from hybrid.llm.cost.trace_ledger import run_ledger
from hybrid.llm.traces.database import TraceDatabase
from hybrid.llm.traces.export import export_traces, import_traces
from hybrid.teacher.imported_votes import read_votes, tally
from hybrid.types import Example
from tests.billing_server import BillingServer
from tests.test_faults import questions, terms
from tests.test_store import Priced, question


def filled(path: Path, texts: tuple[str, ...] = ("0.5", "0.25", "0.125")) -> CachedLLM:
    store = CachedLLM(Priced(), path)
    for text in texts:
        store.ask(question(text))
    return store


def test_an_exported_store_answers_elsewhere_without_a_call(tmp_path: Path) -> None:
    first = filled(tmp_path / "first.sqlite")
    assert export_traces(tmp_path / "first.sqlite", tmp_path / "traces.jsonl") == 3
    assert import_traces(tmp_path / "second.sqlite", tmp_path / "traces.jsonl") == 3
    second = filled(tmp_path / "second.sqlite")
    assert (second.usage().calls, second.usage().hits) == (0, 3)
    assert second.ask(question("0.25")) == first.ask(question("0.25"))
    assert import_traces(tmp_path / "second.sqlite", tmp_path / "traces.jsonl") == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "another"}, "the key is not that of its model and request"),
        ({"key": "0" * 64}, "the key is not that of its model and request"),
        ({"extra": 1}, "not a StoredAnswer"),
    ],
)
def test_a_line_that_was_changed_is_named_and_nothing_is_imported(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    filled(tmp_path / "first.sqlite")
    file = tmp_path / "traces.jsonl"
    export_traces(tmp_path / "first.sqlite", file)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], json.dumps(json.loads(lines[1]) | change), lines[2]]))
    with pytest.raises(DataError, match=rf"traces\.jsonl:2: {said}"):
        import_traces(tmp_path / "second.sqlite", file)
    assert import_traces(tmp_path / "second.sqlite", _first_line_of(file)) == 1


def _first_line_of(file: Path) -> Path:
    short = file.with_name("short.jsonl")
    short.write_text(file.read_text().splitlines()[0])
    return short


def test_a_refusal_is_not_imported_as_an_answer(tmp_path: Path) -> None:
    filled(tmp_path / "first.sqlite", ("1",))
    file = tmp_path / "traces.jsonl"
    export_traces(tmp_path / "first.sqlite", file)
    line = json.loads(file.read_text())
    line["reply"]["status"] = "refused"
    file.write_text(json.dumps(line))
    with pytest.raises(DataError, match="refused"):
        import_traces(tmp_path / "second.sqlite", file)


def test_the_commands_export_import_and_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, file = str(tmp_path / "first.sqlite"), str(tmp_path / "traces.jsonl")
    filled(tmp_path / "first.sqlite")
    assert command.main(["traces", "export", store, file]) == 0
    assert command.main(["traces", "import", str(tmp_path / "second.sqlite"), file]) == 0
    said = capsys.readouterr().out
    assert "3 answers written" in said
    assert "3 new answers" in said
    for words in (["export", str(tmp_path / "nowhere"), file], ["cost", str(tmp_path / "nowhere")]):
        assert command.main(["traces", *words]) == 2
    assert not (tmp_path / "nowhere").exists()


def test_the_cost_of_a_store_is_what_the_provider_billed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store.sqlite"
    with BillingServer() as server:
        books = run_ledger(TraceDatabase(store), terms())
        ask_all(questions(4), Messages("m", base_url=server.url, ledger=books), 2)
    assert command.main(["traces", "cost", str(store)]) == 0
    billed = server.billed
    assert capsys.readouterr().out == (
        f"teacher: 4 calls, {billed['input_tokens']} tokens in "
        f"(cache: {billed['cache_creation_input_tokens']} written, {billed['cache_read_input_tokens']} read), "
        f"{billed['output_tokens']} out, {server.usd:.4f} USD\n"
    )


@pytest.mark.slow
def test_exporting_imports_no_sdk(tmp_path: Path) -> None:
    filled(tmp_path / "first.sqlite")
    code = f"""
import sys
for name in ("anthropic", "xllamacpp", "sklearn", "torch"): sys.modules[name] = None
from hybrid.__main__ import main
sys.exit(main(["traces", "export", {str(tmp_path / "first.sqlite")!r}, {str(tmp_path / "out.jsonl")!r}]))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_keys_from_before_there_was_thinking_stay_the_same() -> None:
    # What was stored under this key was paid for: a change of it would ask everything again.
    request = Request(system="s", user="u", schema={"type": "object"}, max_tokens=60, text="t")
    assert key("m", request) == "45de3db83732f3629d1b6c0f58a5dfb8a7a32ea2638c24c4a49938b31cf86fc6"


LABELS = ("negative", "positive")
ROWS = [
    Example(id="1", text="a", label="negative"),
    Example(id="2", text="b", label="positive"),
    Example(id="3", text="c", label="positive", part="test"),
]


def test_labels_from_elsewhere_are_votes_of_their_source_on_training_rows_alone(tmp_path: Path) -> None:
    (tmp_path / "crowd.csv").write_text(
        "id,label,rationale,confidence,source\n1,positive,It is,0.75,ann\n2,negative,,,\n2,positive,,,\n3,positive,,,\n1,,,,\n"
    )
    (tmp_path / "other.jsonl").write_text('{"id": "1", "label": "negative", "confidence": 1}\n')
    votes = read_votes(["crowd.csv", "other.jsonl"], tmp_path, ROWS, LABELS)
    assert [(v.id, v.label, v.teacher, v.sample, v.status) for v in votes] == [
        ("1", "positive", "ann", 0, "ok"),
        ("2", "negative", "crowd", 0, "ok"),
        ("2", "positive", "crowd", 1, "ok"),
        ("1", None, "crowd", 0, "abstained"),
        ("1", "negative", "other", 0, "ok"),
    ]
    assert (votes[0].rationale, votes[0].confidence, votes[1].confidence) == ("It is", 0.75, None)
    assert tally(votes) == {"ann": 1, "crowd": 2, "other": 1}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,lable\n1,positive\n", "no column 'label'"),
        (
            "id,label\n1,glad\n",
            r"votes\.csv: none of its labels is one of the recipe's \(negative, positive\); the first: 'glad'",
        ),
        ("id,label\n9,positive\n", r"votes\.csv:2: id '9' matches no row"),
        ("id,label,confidence\n1,positive,90%\n", r"votes\.csv:2: confidence '90%': expected a number from 0 to 1"),
        ("id,label,confidence\n1,positive,1.5\n", r"confidence '1\.5'"),
    ],
)
def test_a_file_of_votes_that_cannot_be_right_is_one_clear_sentence(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        read_votes(["votes.csv"], tmp_path, ROWS, LABELS)
