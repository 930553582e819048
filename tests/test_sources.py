"""Rows come in as they stand in the file, and what cannot be right is refused in one sentence."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid.config import DataConfig
from hybrid.data.label_checks import check_labels
from hybrid.data.label_spellings import Spelling, label_key
from hybrid.data.row_ids import ContentIds
from hybrid.data.source_rows import Dataset, SourceRow, labels_of
from hybrid.data.sources import load_data
from hybrid.errors import ConfigError, DataError, HybridError

TWENTY = [(f"text {n}", "ab"[n % 2]) for n in range(20)]


def no_fetch(name: str) -> Path:
    raise AssertionError(f"{name} was fetched")


def load(folder: Path, **config: object) -> Dataset:
    return load_data(DataConfig(**config), folder=folder, seed=7, fetch=no_fetch)  # type: ignore[arg-type]


def write_csv(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("text", "label")) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([header, *rows])


def write_jsonl(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, columns: dict[str, list[object]]) -> None:
    pytest.importorskip("pyarrow.parquet").write_table(pytest.importorskip("pyarrow").table(columns), path)


def refused(folder: Path, said: str, kind: type[HybridError] = DataError, **config: object) -> None:
    with pytest.raises(kind, match=said) as caught:
        load(folder, **config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_cells_stay_as_they_stand_in_the_file(suffix: str, tmp_path: Path) -> None:
    labels = ["NA", "null", "01", "1", "1.0", "true", "True", "no", "None", "nan"]
    texts = [
        "a, b\tc",
        'says "hi"',
        "two\nlines",
        " kept ",
        "2020-01-01",
        "ünï 😀",
        "=1+1",
        "NA",
        "007",
        "a\u2028b",
    ]
    write_csv(tmp_path / f"rows.{suffix}", list(zip(texts, labels, strict=True)) * 10)
    rows = load(tmp_path, train=f"rows.{suffix}", alike_labels="keep").rows
    assert [row.text for row in rows] == texts * 10
    assert [row.label for row in rows] == labels * 10


def test_jsonl_values_keep_their_spelling(tmp_path: Path) -> None:
    spelled = ['"01"', "1", "1.5", "true", '"yes"', '"NA"', '"no"']
    lines = [f'{{"text": "2020-01-01", "label": {label}}}' for label in spelled] * 10
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    rows = load(tmp_path, train="rows.jsonl").rows
    assert [row.label for row in rows] == ["01", "1", "1.5", "true", "yes", "NA", "no"] * 10
    assert {row.text for row in rows} == {"2020-01-01"}


def test_parquet_is_read_and_leaves_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path / "cache"))
    write_parquet(
        tmp_path / "rows.parquet",
        {
            "text": [f"t {n}" for n in range(20)],
            "label": [True, False] * 10,
            "gold": ["true", None] * 10,
            "n": [[1]] * 20,
        },
    )
    rows = load(tmp_path, train="rows.parquet", gold="gold").rows
    assert rows[1] == SourceRow(id=ContentIds().next_id("t 1"), text="t 1", label="false", where="rows.parquet, row 2")
    assert [row.gold for row in rows[:2]] == ["true", None]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


@pytest.mark.slow
def test_a_class_number_becomes_the_name_of_its_class(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["good", "bad"]))
    rows = {"text": [f"t {n}" for n in range(20)], "label": [0, 1] * 10}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    assert labels_of(load(tmp_path, train="rows.parquet")) == ["bad", "good"]


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("text,label\n")
    refused(tmp_path, r"rows\.parquet: cannot be read as parquet", train="rows.parquet")


def test_a_column_without_a_name_is_no_column_of_the_recipe(tmp_path: Path) -> None:
    rows = [(*row, "other", "b") for row in TWENTY]
    write_csv(tmp_path / "rows.csv", rows, ("text", "label", "", ""))
    write_jsonl(tmp_path / "rows.jsonl", [{"text": t, "label": label, "": "other"} for t, label in TWENTY])
    write_parquet(
        tmp_path / "rows.parquet",
        {"": ["other"] * 20, "text": [t for t, _ in TWENTY], "label": [label for _, label in TWENTY]},
    )
    (tmp_path / "prepare.py").write_text(
        f"def prepare(fetch, seed):\n    return [{{'text': t, 'label': l, '': 'other'}} for t, l in {TWENTY!r}]\n"
    )
    for source in (
        {"train": "rows.csv"},
        {"train": "rows.jsonl"},
        {"train": "rows.parquet"},
        {"prepare": "prepare.py"},
    ):
        found = load(tmp_path, **source).rows
        assert [(row.text, row.label, row.gold, row.part) for row in found] == [(*row, None, None) for row in TWENTY]
        assert len({row.id for row in found}) == 20


@pytest.mark.parametrize("index", ["", "Unnamed: 0"])
def test_the_index_that_pandas_writes_is_passed_over(index: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", [(str(n), *row) for n, row in enumerate(TWENTY)], (index, "text", "label"))
    assert labels_of(load(tmp_path, train="rows.csv")) == ["a", "b"]


def test_a_role_without_a_column_is_refused_in_one_sentence(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", [(*row, "x") for row in TWENTY], ("text", "label", ""))
    refused(tmp_path, r"data\.text is empty; name the column of the texts", ConfigError, train="rows.csv", text="")
    refused(tmp_path, r"data\.label is empty; name the column of the given", ConfigError, train="rows.csv", label="")
    refused(tmp_path, r"data\.annotators has an empty name", ConfigError, train="rows.csv", annotators=("label", ""))


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({"label": "text"}, r"data\.text and data\.label are both 'text'"),
        ({"gold": "label"}, r"data\.label and data\.gold are both 'label'"),
        ({"gold": "text"}, r"data\.text and data\.gold are both 'text'"),
        ({"annotators": ("label", "text")}, r"data\.text and data\.annotators are both 'text'"),
        ({"annotators": ("label", "label")}, r"data\.annotators and data\.annotators are both 'label'"),
        ({"annotators": ("label", "x"), "gold": "x"}, r"data\.annotators and data\.gold are both 'x'"),
    ],
)
def test_one_column_for_two_purposes_is_refused(roles: dict[str, object], said: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", [(*row, "a") for row in TWENTY], ("text", "label", "x"))
    refused(tmp_path, said, ConfigError, train="rows.csv", **roles)


def test_a_row_is_found_by_its_line_even_after_a_text_of_two_lines(tmp_path: Path) -> None:
    content = 'text,label\n"one\ntwo",a\n\n' + "".join(f"t{n},{'ab'[n % 2]}\n" for n in range(20))
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode())
    rows = load(tmp_path, train="rows.csv").rows
    assert [row.where for row in rows[:3]] == ["rows.csv:2", "rows.csv:5", "rows.csv:6"]
    assert rows[1].where == "rows.csv:5"


def test_an_id_column_names_the_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", [(f"k{n}", *row) for n, row in enumerate(TWENTY)], ("key", "text", "label"))
    assert load(tmp_path, train="rows.csv", id="key").rows[3].id == "k3"


def test_the_given_label_is_the_majority_and_a_tie_goes_to_the_first_column(tmp_path: Path) -> None:
    votes = [("a", "b", "b"), ("b", "a", ""), ("", "a", "b"), ("c", "b", "a")] * 10
    write_csv(tmp_path / "rows.csv", [(f"t{n}", *vote) for n, vote in enumerate(votes)], ("text", "x", "y", "z"))
    rows = load(tmp_path, train="rows.csv", annotators=("x", "y", "z")).rows
    assert [row.label for row in rows[:4]] == ["b", "b", "a", "c"]
    assert rows[2].annotations == {"y": "a", "z": "b"}


def test_files_of_parts_give_their_rows_the_part(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    write_csv(tmp_path / "rows.csv", TWENTY)
    write_csv(tmp_path / "test" / "rows.csv", [(f"new {n}", "a") for n in range(3)], ("text", "gold"))
    rows = load(tmp_path, train="rows.csv", test="test/rows.csv", gold="gold").rows
    assert [row.part for row in rows] == ["train"] * 20 + ["test"] * 3
    assert [rows[0].where, rows[20].where] == ["rows.csv:2", "test/rows.csv:2"]
    assert (rows[0].gold, rows[20].label, rows[20].gold) == (None, None, "a")


def test_a_column_may_say_the_part(tmp_path: Path) -> None:
    parts = ["train", "train", "calibration", "test"] * 5
    write_csv(tmp_path / "r.csv", [(*row, p) for row, p in zip(TWENTY, parts, strict=True)], ("text", "label", "part"))
    assert [row.part for row in load(tmp_path, train="r.csv", split="part").rows] == parts
    assert load(tmp_path, train="r.csv").rows[0].part is None


def test_prepare_gets_fetch_and_seed_and_its_rows_are_text(tmp_path: Path) -> None:
    (tmp_path / "prepare.py").write_text(
        "def prepare(fetch, seed):\n"
        "    return [{'text': f'{fetch.__name__} {seed} {n}', 'label': n % 2, 'gold': None} for n in range(20)]\n"
    )
    rows = load(tmp_path, prepare="prepare.py", gold="gold").rows
    assert rows[1] == SourceRow(
        id=ContentIds().next_id("no_fetch 7 1"), text="no_fetch 7 1", label="1", where="prepare.py, row 2"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["prepare.py"]


@pytest.mark.parametrize("code", ["x = 1", "def prepare(:"])
def test_a_file_without_prepare_is_refused(code: str, tmp_path: Path) -> None:
    (tmp_path / "prepare.py").write_text(code)
    refused(tmp_path, "no usable prepare", ConfigError, prepare="prepare.py")


def test_prepare_must_give_dicts(tmp_path: Path) -> None:
    (tmp_path / "prepare.py").write_text("def prepare(fetch, seed):\n    return [('a', 'b')]")
    refused(tmp_path, "row 1: prepare gave a tuple; expected a dict", prepare="prepare.py")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"rows\.csv: no rows in it"),
        (b"text,label\n", r"rows\.csv: no rows in it"),
        (b"text^label\nx^a\n", r"no column 'text' \(data\.text\); it has: text\^label; .* make sep=\^ the first line"),
        (b"PK\x03\x04text,label\n", r"rows\.csv: by its first bytes this is a zip file"),
        ("text,label\nx,a\n".encode("utf-16-be"), r"rows\.csv:1: NUL characters, as UTF-16 has them"),
        (b"text,tag\nx,a\n", r"no column 'label' \(data\.label\); it has: text, tag"),
        (b"text,label\nx,a\nsh\xf6n,b\n", r"rows\.csv:3: byte 17 of the file \(0xf6\) is not UTF-8"),
        ("text,label\nx,a\n".encode("utf-16"), r"rows\.csv: by its first bytes this is UTF-16"),
        (b"text,label\nx,a\n  ,b\n", r"rows\.csv:3: text is empty"),
        (b"text,label\nx,a\ny,\n", r"rows\.csv:3: label is empty"),
        ("text,label\nx,a\ny,\u200b\n".encode(), r"rows\.csv:3: label is empty"),
        (b"text,label\nx,a\ny\n", r"rows\.csv:3: expected 2 cells as in the header, got 1"),
        (b"text,label\nx,a\ny,b,c\n", r"rows\.csv:3: expected 2 cells as in the header, got 3"),
        (b'text,label\nx,a\n"y,b\nz,a\n', r"rows\.csv:3: not a well-formed line"),
        (b'text,label\n"x" y,a\n', r"rows\.csv:2: not a well-formed line"),
        (b"text,label,text\nx,a,b\n", r"rows\.csv:1: column 'text' appears twice"),
        (b"text,label\n" + b"x,a\n" * 20, r"every row is labelled 'a'; expected two classes"),
        (b"text,label\n" + b"x,a\ny,b\n" * 9, r"18 rows for 2 classes; .* 20 or more"),
    ],
)
def test_a_bad_csv_is_refused_where_it_is_bad(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    refused(tmp_path, said, train="rows.csv")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "x", "label": }', r"rows\.jsonl:2: not a JSON object"),
        ('["x", "a"]', r"rows\.jsonl:2: not a JSON object"),
        ('{"text": "", "label": "a"}', r"rows\.jsonl:2: text is empty"),
        ('{"text": "x", "label": null}', r"rows\.jsonl:2: label is empty"),
        ('{"text": "x"}', r"rows\.jsonl:2: label is empty"),
        ('{"text": "x", "label": ["a"]}', r"rows\.jsonl:2: label holds a list"),
    ],
)
def test_a_bad_jsonl_line_is_refused_by_its_number(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "x", "label": "a"}\n' + line + "\n")
    refused(tmp_path, said, train="rows.jsonl")


def test_an_unused_column_of_lists_is_no_matter(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "r.jsonl", [{"text": t, "label": label, "tags": [1]} for t, label in TWENTY])
    assert len(load(tmp_path, train="r.jsonl").rows) == 20


def test_other_mistakes_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", TWENTY)
    (tmp_path / "rows.docx").write_text("")
    refused(tmp_path, r"absent\.csv: no such file \(data\.train = 'absent\.csv'\)", train="absent.csv")
    refused(tmp_path, r"a \.docx file; expected \.csv, .*, \.parquet, \.xlsx or \.xlsm", train="rows.docx")
    refused(tmp_path, r"no column 'truth' \(data\.gold\)", train="rows.csv", gold="truth")
    refused(tmp_path, r"no column 'x' \(data\.annotators\)", train="rows.csv", annotators=("x", "y"))
    refused(tmp_path, r"rows\.csv:4: id 'a' is used at rows\.csv:2 already", train="rows.csv", id="label")
    refused(tmp_path, r"rows\.csv:2: label = 'a'; expected train, calibration or test", train="rows.csv", split="label")
    refused(tmp_path, "the same file is given for two parts", ConfigError, train="rows.csv", test="rows.csv")
    refused(tmp_path, r"no such file \(data\.prepare", ConfigError, prepare="absent.py")


def test_a_ready_split_without_test_rows_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "r.csv", [(*row, "train") for row in TWENTY], ("text", "label", "part"))
    refused(tmp_path, "no row is for test", train="r.csv", split="part")


def test_a_label_outside_the_recipe_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", [*TWENTY, ("late", "positve")] * 2)
    dataset = load(tmp_path, train="rows.csv")
    assert labels_of(dataset) == ["a", "b", "positve"]
    check_labels(dataset, ["b", "a", "positve"])
    with pytest.raises(
        DataError, match=r"rows\.csv:22: label 'positve' is not one .*\(a, b, positive\); write 'positive'"
    ):
        check_labels(dataset, ["a", "b", "positive"])


def test_a_number_outside_the_recipe_is_refused_with_the_label_of_the_same_number() -> None:
    row = SourceRow(id="r", text="t", label="1.0")
    with pytest.raises(DataError, match=r"r: label '1\.0' is not one .*; write '1' there"):
        check_labels(Dataset([row]), ["0", "1"])


def test_an_annotators_label_outside_the_recipe_is_refused() -> None:
    row = SourceRow(id="r", text="t", label="a", annotations={"x": "a", "y": "unsure"})
    with pytest.raises(DataError, match="r: label 'unsure'"):
        check_labels(Dataset([row]), ["a", "b"])


ALIKE = {
    "case": ("good", "Good"),
    "case beyond ASCII": ("élevé", "ÉLEVÉ"),
    "Unicode form": ("caf\u00e9", "cafe\u0301"),
    "compatibility form": ("good", "\uff47\uff4f\uff4f\uff44"),
    "zero-width space": ("good", "good\u200b"),
    "byte order mark": ("good", "\ufeffgood"),
    "soft hyphen": ("good", "go\u00adod"),
    "control": ("good", "go\x00od"),
    "emoji variation": ("\u2764", "\u2764\ufe0f"),
    "doubled space": ("very good", "very  good"),
    "no-break space": ("very good", "very\u00a0good"),
    "line end": ("very good", "very\ngood"),
}


@pytest.mark.parametrize("name", ALIKE)
def test_labels_that_look_alike_are_refused_joined_or_kept(name: str, tmp_path: Path) -> None:
    label, other = ALIKE[name]
    cells = [label, "bad", other, "bad", label] * 8
    write_jsonl(tmp_path / "r.jsonl", [{"text": f"text {n}", "label": cell} for n, cell in enumerate(cells)])
    refused(tmp_path, r"r\.jsonl: labels that a reader cannot tell apart, .* \(16\) and .* \(8\); ", train="r.jsonl")
    joined = load(tmp_path, train="r.jsonl", alike_labels="join")
    assert labels_of(joined) == sorted(["bad", label])
    assert joined.spellings == [Spelling(spelling=other, label=label, n_cells=8)]
    kept = load(tmp_path, train="r.jsonl", alike_labels="keep")
    assert labels_of(kept) == sorted(["bad", label, other])
    assert kept.spellings == []


def test_what_looks_alike_is_shown_so_that_it_can_be_told_apart(tmp_path: Path) -> None:
    labels = ["caf\u00e9", "cafe\u0301", "good\u200b", "good", "\ufeffgood"] * 10
    write_jsonl(tmp_path / "r.jsonl", [{"text": f"text {n}", "label": label} for n, label in enumerate(labels)])
    refused(
        tmp_path,
        r"'café' \(10\) and 'cafe\\u0301' \(10\); 'good\\u200b' \(10\) and 'good' \(10\) and '\\ufeffgood' \(10\)",
        train="r.jsonl",
    )


def test_a_joined_label_takes_the_spelling_of_the_recipe_and_else_the_most_frequent_in_train(tmp_path: Path) -> None:
    cells = ["GOOD", "good", "good", "bad"] * 10
    write_csv(tmp_path / "r.csv", [(f"t{n}", cell) for n, cell in enumerate(cells)])
    write_csv(tmp_path / "test.csv", [(f"x{n}", "GOOD") for n in range(30)])
    files = {"train": "r.csv", "test": "test.csv", "alike_labels": "join"}
    assert labels_of(load(tmp_path, **files)) == ["bad", "good"]
    config = DataConfig(**files)  # type: ignore[arg-type]
    for labels, name in ((("GOOD", "bad"), "GOOD"), (("Good", "bad"), "Good")):
        found = load_data(config, folder=tmp_path, seed=0, fetch=no_fetch, labels=labels)
        assert labels_of(found) == sorted(labels)
        assert {spelling.label for spelling in found.spellings} == {name}


def test_votes_that_look_alike_are_votes_for_one_label(tmp_path: Path) -> None:
    votes = [("a", "B", "b"), ("b", "a", "a")] * 10
    write_csv(tmp_path / "r.csv", [(f"t{n}", *vote) for n, vote in enumerate(votes)], ("text", "x", "y", "z"))
    rows = load(tmp_path, train="r.csv", annotators=("x", "y", "z"), alike_labels="join").rows
    assert [row.label for row in rows[:2]] == ["b", "a"]
    assert rows[0].annotations == {"x": "a", "y": "b", "z": "b"}


def test_sets_of_labels_are_joined_label_by_label(tmp_path: Path) -> None:
    cells = ["new|Hot", "hot", "new", "hot|HOT"] * 10
    write_csv(tmp_path / "r.csv", [(f"t{n}", cell) for n, cell in enumerate(cells)])
    config = DataConfig(train="r.csv", alike_labels="join")
    found = load_data(config, folder=tmp_path, seed=0, fetch=no_fetch, task="multi_label")
    assert [row.label for row in found.rows[:4]] == ["hot|new", "hot", "new", "hot"]


@pytest.mark.parametrize("test_format", ["csv", "jsonl", "parquet"])
def test_numbers_and_truth_values_are_one_label_where_a_column_has_their_type(test_format: str, tmp_path: Path) -> None:
    for train, test, names in (
        ([0, 1], ["0.0", "1.0"], ["0", "1"]),
        ([0.0, 1.0], ["0", "1"], ["0.0", "1.0"]),
        ([0, 1], ["0e0", "1.00"], ["0", "1"]),
        ([True, False], ["True", "FALSE"], ["false", "true"]),
    ):
        write_jsonl(tmp_path / "train.jsonl", [{"text": f"a{n}", "label": train[n % 2]} for n in range(20)])  # type: ignore[index]
        texts, cells = [f"b{n}" for n in range(10)], [test[n % 2] for n in range(10)]
        if test_format == "csv":
            write_csv(tmp_path / "test.csv", list(zip(texts, cells, strict=True)))
        elif test_format == "jsonl":
            write_jsonl(tmp_path / "test.jsonl", [{"text": t, "label": c} for t, c in zip(texts, cells, strict=True)])
        else:
            write_parquet(tmp_path / "test.parquet", {"text": [*texts], "label": [*cells]})
        found = load(tmp_path, train="train.jsonl", test=f"test.{test_format}")
        assert labels_of(found) == names
        assert sum(spelling.n_cells for spelling in found.spellings) == 10


def test_a_typed_column_of_the_test_file_gives_the_type_too(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [(f"a{n}", "01"[n % 2]) for n in range(20)])
    write_parquet(tmp_path / "test.parquet", {"text": [f"b{n}" for n in range(10)], "label": [0.0, 1.0] * 5})
    assert labels_of(load(tmp_path, train="train.csv", test="test.parquet")) == ["0", "1"]


SPELLINGS = [
    "good",
    "Good",
    "GOOD",
    " good ",
    "good\u200b",
    "bad",
    "b\u0061d",
    "bad  one",
    "bad one",
    "1",
    "1.0",
    "01",
    "é",
    "e\u0301",
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    labels=st.lists(st.sampled_from(SPELLINGS), min_size=1, max_size=5, unique=True),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    mark=st.sampled_from(["", "\ufeff"]),
    alike=st.sampled_from(["refuse", "join", "keep"]),
)
def test_labels_of_any_spelling_are_those_of_the_file_or_refused(
    labels: list[str], delimiter: str, quoting: Literal[0, 1], mark: str, alike: str, tmp_path: Path
) -> None:
    page = io.StringIO(newline="")
    cells = [(f"text, {n}; of", labels[n % len(labels)]) for n in range(60)]
    csv.writer(page, delimiter=delimiter, quoting=quoting).writerows([("text", "label"), *cells])
    (tmp_path / "r.csv").write_text(mark + page.getvalue(), encoding="utf-8", newline="")
    names = {label.strip() for label in labels}
    groups = {label_key(label) for label in names}
    try:
        found = load(tmp_path, train="r.csv", alike_labels=alike)
    except DataError as error:
        assert "\n" not in str(error)
        assert len(groups) < 2 or (alike == "refuse" and len(groups) < len(names))
        return
    assert [row.text for row in found.rows] == [text for text, _ in cells]
    same = label_key if alike == "join" else str
    assert [same(row.label or "") for row in found.rows] == [same(label.strip()) for _, label in cells]
    assert len(labels_of(found)) == (len(groups) if alike == "join" else len(names))


def test_a_label_that_only_the_test_file_has_is_refused_with_the_nearest_of_train(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [(f"a{n}", "01"[n % 2]) for n in range(20)])
    write_csv(tmp_path / "test.csv", [(f"b{n}", ("0.0", "1.0", "huge")[n % 3]) for n in range(9)])
    refused(
        tmp_path,
        r"no training row is given: '0.0' \(3 rows; the nearest is '0', in 10\), '1.0' \(3 rows; the nearest is '1', in "
        r"10\), 'huge' \(3 rows\); spell them as in the training rows",
        train="train.csv",
        test="test.csv",
    )


def test_a_label_that_no_training_row_is_given_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    rows = [(*row, row[1]) for row in TWENTY]
    write_csv(tmp_path / "gold.csv", [*rows, ("late", "a", "aa")], ("text", "label", "gold"))
    refused(tmp_path, r"'aa' \(1 rows; the nearest is 'a', in 11\)", train="gold.csv", gold="gold")
    parts = [(*row, ("train", "test")[n % 2], row[1]) for n, row in enumerate(TWENTY)]
    write_csv(tmp_path / "split.csv", parts, ("text", "label", "part", "gold"))
    refused(tmp_path, r"no training row is given: 'b' \(10 rows\)", train="split.csv", split="part")
    write_csv(
        tmp_path / "sets.csv", [(f"t{n}", "a|b", "b|c" if n == 3 else "a") for n in range(30)], ("text", "x", "y")
    )
    config = DataConfig(train="sets.csv", label="x", gold="y")
    with pytest.raises(DataError, match=r"no training row is given: 'c' \(1 rows\)"):
        load_data(config, folder=tmp_path, seed=0, fetch=no_fetch, task="multi_label")


def test_a_label_of_annotators_alone_is_trained(tmp_path: Path) -> None:
    rows = [(f"t{n}", "ab"[n % 2], "ab"[n % 2], "c", "c" if n == 3 else "ab"[n % 2]) for n in range(40)]
    write_csv(tmp_path / "r.csv", rows, ("text", "x", "y", "z", "gold"))
    found = load(tmp_path, train="r.csv", annotators=("x", "y", "z"), gold="gold")
    assert labels_of(found) == ["a", "b", "c"]


@pytest.mark.slow
@pytest.mark.timeout(120)  # around one second on one core: a guard against anything quadratic
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_100_000_rows_load_in_linear_time(suffix: str, tmp_path: Path) -> None:
    rows = [(f"a text of some words, number {n}", "abc"[n % 3]) for n in range(100_000)]
    if suffix == "csv":
        write_csv(tmp_path / "rows.csv", rows)
    else:
        write_jsonl(tmp_path / "rows.jsonl", [{"text": text, "label": label} for text, label in rows])
    assert len(load(tmp_path, train=f"rows.{suffix}").rows) == 100_000
