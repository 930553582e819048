"""DataFrames at the runtime's door: a frame in, a frame out, of pandas and of polars; and notebook views."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import polars
import pytest

import hybrid
from hybrid.errors import DataError

BUNDLE = Path(__file__).parent / "golden" / "bundle-format-3"
TEXTS = ["The soup was awful.", "A lovely tart.", "The bread was fresh."]
COLUMNS = [
    *("label", "confidence", "escalate", "status", "source", "escalation", "rationale", "reason", "truncated"),
    *("prob_bad", "prob_good", "prob_plain"),
]


@pytest.fixture(scope="module")
def classifier() -> hybrid.Classifier:
    return hybrid.load(BUNDLE)


def test_a_pandas_frame_gives_one_with_its_index(classifier: hybrid.Classifier) -> None:
    frame = pandas.DataFrame({"body": TEXTS, "label": ["x"] * 3}, index=["a", "b", "c"])
    answers = classifier.classify(frame, text="body")
    assert list(answers.columns) == COLUMNS
    assert list(answers.index) == ["a", "b", "c"]
    direct = classifier.classify(TEXTS)
    assert answers["label"].tolist() == [prediction.label for prediction in direct]
    assert answers["prob_good"].tolist() == [prediction.probs["good"] for prediction in direct]
    assert answers["status"].tolist() == [prediction.status for prediction in direct]
    assert frame.drop(columns="label").join(answers).shape == (3, 13)


def test_a_polars_frame_gives_a_polars_frame(classifier: hybrid.Classifier) -> None:
    answers = classifier.classify(polars.DataFrame({"body": TEXTS}), text="body", threshold=1.0)
    assert isinstance(answers, polars.DataFrame)
    assert answers.columns == COLUMNS
    assert answers["escalate"].to_list() == [True] * 3


def test_an_empty_frame_gives_an_empty_frame(classifier: hybrid.Classifier) -> None:
    answers = classifier.classify(pandas.DataFrame({"body": []}), text="body")
    assert list(answers.columns) == COLUMNS
    assert len(answers) == 0


@pytest.mark.parametrize(
    ("frame", "text", "message"),
    [
        pytest.param(
            pandas.DataFrame({"body": TEXTS}), "txt", "no column 'txt' in the frame; it has: body", id="missing"
        ),
        pytest.param(pandas.DataFrame({"body": TEXTS}), "", "expected text=COLUMN beside the frame", id="unnamed"),
        pytest.param(
            pandas.DataFrame({"body": ["good", None]}),
            "body",
            "row 2 of the column 'body' is (None|nan)",
            id="empty cell",
        ),
        pytest.param(polars.DataFrame({"n": [1]}), "n", "row 1 of the column 'n' is 1; expected a text", id="number"),
        pytest.param(TEXTS, "body", "text = 'body' with a list; expected a DataFrame", id="list"),
    ],
)
def test_a_frame_without_texts_is_refused_with_the_column_and_the_row(
    classifier: hybrid.Classifier, frame: Any, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        classifier.classify(frame, text=text)


def test_a_prediction_shows_itself_in_a_notebook_and_escapes_what_it_shows() -> None:
    prediction = hybrid.Prediction(
        label="<b>", confidence=0.75, probs={"<b>": 0.75, "good": 0.25}, escalate=True, rationale="a < b"
    )
    page = prediction._repr_html_()
    assert "&lt;b&gt;</b> 75.0% sure &middot; escalated &middot; by encoder &middot; a &lt; b" in page
    assert page.index("0.750") < page.index("0.250")


def test_answering_texts_imports_no_library_of_frames() -> None:
    code = (
        f"import sys, hybrid; hybrid.load({str(BUNDLE)!r}, decoder=lambda text: None).classify(['A text.']); "
        "print([name for name in ('pandas', 'polars', 'torch', 'sklearn', 'anthropic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
