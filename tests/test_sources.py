"""Rows come in as they stand in the file, and what cannot be right is refused in one sentence."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hybrid.config import DataConfig
from hybrid.data.row_ids import ContentIds
from hybrid.data.sources import Dataset, SourceRow, check_labels, labels_of, load_data
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
    rows = load(tmp_path, train=f"rows.{suffix}").rows
    assert [row.text for row in rows] == texts * 10
    assert [row.label for row in rows] == labels * 10


def test_jsonl_values_keep_their_spelling(tmp_path: Path) -> None:
    spelled = ['"01"', "1", "1.0", "true", '"True"', '"NA"', '"no"']
    lines = [f'{{"text": "2020-01-01", "label": {label}}}' for label in spelled] * 10
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    rows = load(tmp_path, train="rows.jsonl").rows
    assert [row.label for row in rows] == ["01", "1", "1.0", "true", "True", "NA", "no"] * 10
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
    (tmp_path / "rows.xlsx").write_text("")
    refused(tmp_path, r"absent\.csv: no such file \(data\.train = 'absent\.csv'\)", train="absent.csv")
    refused(tmp_path, r"a \.xlsx file; expected \.csv, \.tsv, \.jsonl, \.ndjson or \.parquet", train="rows.xlsx")
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


def test_an_annotators_label_outside_the_recipe_is_refused() -> None:
    row = SourceRow(id="r", text="t", label="a", annotations={"x": "a", "y": "unsure"})
    with pytest.raises(DataError, match="r: label 'unsure'"):
        check_labels(Dataset([row]), ["a", "b"])


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
