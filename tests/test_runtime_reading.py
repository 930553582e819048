"""Reading: a long text is cut or windowed as set, the same way in training and in serving."""

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from hybrid.encoders.batches import read_windows
from hybrid.encoders.checkpoint import write_tokenizer
from hybrid.errors import BundleError, ConfigError
from hybrid.recipe_files.read import read_recipe
from hybrid.runtime.text_encoder import TextEncoder, TextLimits, pool, text_limits_of
from tests.corpus import texts_and_gold
from tests.tiny import unigram_tokenizer

TEXTS = texts_and_gold(60)[0]
LONG = " ".join(TEXTS[:6])
MANY = [LONG, "short", *TEXTS[:5], " ".join(TEXTS)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return unigram_tokenizer(TEXTS)


def reader(tokenizer: PreTrainedTokenizerFast, reading: TextLimits) -> TextEncoder:
    return TextEncoder(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), reading)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_text_cut_at_one_end_has_the_tokens_that_transformers_gives_it(
    tokenizer: PreTrainedTokenizerFast, side: str
) -> None:
    tokenizer.truncation_side = side
    wanted = tokenizer(MANY, truncation=True, max_length=16)["input_ids"]
    read = reader(tokenizer, TextLimits(max_length=16, truncate=side)).read(MANY)  # type: ignore[arg-type]
    assert [one.windows for one in read] == [(ids,) for ids in wanted]
    whole = tokenizer(MANY)["input_ids"]
    assert [one.truncated for one in read] == [len(ids) > 16 for ids in whole]
    assert any(one.truncated for one in read)
    assert not all(one.truncated for one in read)


@pytest.mark.parametrize("length", [15, 16])
def test_both_ends_of_a_text_stay_with_the_special_tokens_in_place(
    tokenizer: PreTrainedTokenizerFast, length: int
) -> None:
    whole = tokenizer(LONG)["input_ids"]
    long, short = reader(tokenizer, TextLimits(max_length=length, truncate="both")).read([LONG, "short"])
    assert long.windows == (whole[:8] + whole[-(length - 8) :],)
    assert (long.truncated, short.truncated) == (True, False)
    assert short.windows == (tokenizer("short")["input_ids"],)


def test_windows_share_their_overlap_and_together_hold_every_token(tokenizer: PreTrainedTokenizerFast) -> None:
    (read,) = reader(tokenizer, TextLimits(max_length=16, windows="mean", overlap=4)).read([LONG])
    whole = tokenizer(LONG, add_special_tokens=False)["input_ids"]
    assert not read.truncated
    assert len(read.windows) > 2
    assert all(ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id for ids in read.windows)
    inner = [ids[1:-1] for ids in read.windows]
    assert all(before[-4:] == after[:4] for before, after in itertools.pairwise(inner))
    assert inner[0] + [token for ids in inner[1:] for token in ids[4:]] == whole


def test_one_text_alone_reads_as_it_does_among_others(tokenizer: PreTrainedTokenizerFast) -> None:
    for reading in (TextLimits(max_length=16), TextLimits(max_length=16, windows="max", overlap=4)):
        ours = reader(tokenizer, reading)
        assert [ours.read([text])[0] for text in MANY] == ours.read(MANY)


def test_logits_of_windows_are_pooled_by_text() -> None:
    logits = np.array([[1, 0], [3, -2], [5, 5], [0, 9], [0, 3]], dtype=np.float32)
    mean = pool(logits, [2, 1, 2], TextLimits(max_length=8, windows="mean"))
    assert np.array_equal(mean, [[2, -1], [5, 5], [0, 6]])
    assert np.array_equal(pool(logits, [2, 1, 2], TextLimits(max_length=8, windows="max")), [[3, 0], [5, 5], [0, 9]])
    assert mean.dtype == np.float32


@pytest.mark.parametrize(
    "reading",
    [
        TextLimits(max_length=16),
        TextLimits(max_length=16, truncate="left"),
        TextLimits(max_length=16, truncate="both"),
        TextLimits(max_length=16, windows="mean", overlap=4),
    ],
)
def test_training_reads_the_tokens_that_serving_reads(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, reading: TextLimits
) -> None:
    write_tokenizer(tokenizer, tmp_path / "tokenizer.json", reading)
    served = TextEncoder(Tokenizer.from_file(str(tmp_path / "tokenizer.json")), reading).read(MANY)
    trained = read_windows(tokenizer, MANY, reading)
    assert trained.columns["input_ids"] == [ids for one in served for ids in one.windows]
    assert trained.counts == tuple(len(one.windows) for one in served)
    assert trained.columns["attention_mask"] == [[1] * len(ids) for ids in trained.columns["input_ids"]]
    assert set(trained.columns) == set(tokenizer.model_input_names)
    assert sum(trained.shares) == pytest.approx(len(MANY))
    assert trained.each(MANY)[: trained.counts[0]] == [LONG] * trained.counts[0]


def test_a_saved_tokenizer_names_its_reading_or_says_that_it_cannot(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    for reading in (TextLimits(max_length=16), TextLimits(max_length=24, truncate="left")):
        write_tokenizer(tokenizer, path, reading)
        assert text_limits_of(Tokenizer.from_file(str(path))) == reading
    for unsaid in (TextLimits(max_length=16, truncate="both"), TextLimits(max_length=16, windows="mean", overlap=4)):
        write_tokenizer(tokenizer, path, unsaid)
        with pytest.raises(BundleError, match="does not tell how a long text is read; pass the `reading`"):
            text_limits_of(Tokenizer.from_file(str(path)))


def test_threads_read_at_once_and_change_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    ours = reader(tokenizer, TextLimits(max_length=16))
    wanted = ours.read(MANY)
    wrong: list[object] = []

    def read_often() -> None:
        for number in range(50):
            try:
                one = number % len(MANY)
                wrong.extend([] if ours.read(MANY) == wanted and ours.read([MANY[one]]) == [wanted[one]] else [number])
            except RuntimeError as error:  # "Already borrowed": somebody changed the tokenizer
                wrong.append(error)

    threads = [threading.Thread(target=read_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            'windows = "mean"\noverlap = 20',
            r"encoder\.overlap = 20: expected at most half of encoder\.max_length \(32\)",
        ),
        ('windows = "mean"\noverlap = 8\ntruncate = "left"', "encoder.truncate = 'left' with encoder.windows"),
        ('truncate = "middle"', r"encoder\.truncate = 'middle'"),
    ],
)
def test_a_recipe_whose_reading_cannot_be_is_refused(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'name = "a"\n[data]\ntrain = "a.csv"\n[encoder]\nmax_length = 32\n{lines}\n')
    with pytest.raises(ConfigError, match=message):
        read_recipe(path)
