"""The packaged SmolLM2 as teacher of the sentiment recipe: how fast, how valid, and what cleaning makes of its votes.

`python benchmarks/local_teacher.py [ROWS]`, 500 training rows unless told otherwise. It asks anew, from no store. A
model of 135 million parameters knows little of sentiment: what is measured is that it answers in time, within the
schema, and that its votes do no harm.
"""

import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
from targets import bar, finish

from hybrid.artifacts import fetch, model_folder
from hybrid.config import CleanConfig, LLMConfig, VerifyConfig
from hybrid.data.sources import load_data
from hybrid.encoders.embed import embed
from hybrid.labels.cleaning import clean
from hybrid.llm import Reply, Request, open_llm
from hybrid.recipe_files.find import find_recipe
from hybrid.recipe_files.read import read_recipe
from hybrid.stages.split import split
from hybrid.teacher.vote_collection import Teacher, collect_votes
from hybrid.types import Example, Trusted

ROWS = 500
MINUTES = 6
TRUSTED = 100
MOST_HARM = 0.003
# Short reasons: a small model fills what it is given room for, and decides no better for it.
TEACHER = LLMConfig(model="local", max_tokens=60, workers=4)


class Watched:
    """A model, and the replies it gave."""

    def __init__(self, llm) -> None:
        self.name = llm.name
        self.replies: list[Reply] = []
        self._llm = llm

    def ask(self, request: Request) -> Reply:
        reply = self._llm.ask(request)
        self.replies.append(reply)
        return reply


def main() -> None:
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    path = find_recipe("sentiment")
    recipe = read_recipe(path)
    data = load_data(recipe.data, folder=path.parent, seed=recipe.seed, fetch=fetch, task=recipe.task)
    dealt = split(data.rows, recipe.labels, recipe.split, seed=recipe.seed, task=recipe.task)
    rows = [row for row in dealt.rows if row.part == "train"][:n_rows]
    gold = {gold_row.id: gold_row.label for gold_row in dealt.gold}
    llm = open_llm(TEACHER, role="teacher")
    assert llm is not None
    teacher = Watched(llm)
    started, cpu = time.monotonic(), cpu_seconds()
    asked = Teacher(llm=teacher, config=TEACHER)
    collected = collect_votes(rows, recipe.labels, VerifyConfig(), teacher=asked, on_done=say)
    wall_s, cpu_s = time.monotonic() - started, cpu_seconds() - cpu
    cores = len(os.sched_getaffinity(0))
    tokens = [
        sum(getattr(reply, name) for reply in teacher.replies) / len(rows) for name in ("input_tokens", "output_tokens")
    ]
    print(f"{len(rows)} rows, {llm.name}: prompt {tokens[0]:.0f} tokens, answer {tokens[1]:.0f}")
    print(
        f"wall {wall_s:.0f} s, CPU {cpu_s:.0f} s ({cpu_s / len(rows):.2f} a row): "
        f"{cpu_s / wall_s / cores:.0%} of {cores} cores"
    )
    print(f"votes: {dict(Counter(vote.label or vote.status for vote in collected.votes))}")
    right = np.mean([vote.label == gold[vote.id] for vote in collected.votes])
    print(f"teacher right {right:.3f}")
    harm = {n_trusted: harm_of(rows, collected.votes, gold, n_trusted) for n_trusted in (0, TRUSTED)}
    valid = np.mean([is_valid(reply, recipe.labels) for reply in teacher.replies])
    bar(
        "local_teacher_minutes_500_rows",
        round(wall_s / 60 * ROWS / len(rows), 2),
        f"<= {MINUTES}",
        wall_s / 60 * ROWS / len(rows) <= MINUTES,
    )
    bar("local_teacher_valid_answers", valid, "== 1.0", valid == 1.0)
    for n_trusted, more in harm.items():
        bar(f"local_teacher_harm_{n_trusted}_trusted", round(more, 4), f"<= {MOST_HARM}", more <= MOST_HARM)
    finish()


def harm_of(rows: Sequence[Example], votes, gold, n_trusted: int) -> float:
    """Return by how much the share of wrong labels grows when the votes are heard, trusted rows left out."""
    recipe = read_recipe(find_recipe("sentiment"))
    folder = model_folder(recipe.encoder.model)
    drawn = np.random.default_rng(recipe.seed).permutation(len(rows))[:n_trusted]
    trusted = [Trusted(id=rows[i].id, label=gold[rows[i].id], source="gold") for i in drawn]
    cleaned = clean(
        rows,
        votes,
        recipe.labels,
        CleanConfig(),
        embed=lambda texts: embed(folder, texts, max_length=recipe.encoder.max_length),
        seed=recipe.seed,
        trusted=trusted,
    )
    known = {row.id for row in trusted}
    judged = [decision for decision in cleaned.decisions if decision.id not in known]
    before, after = (
        np.mean([getattr(decision, side) != gold[decision.id] for decision in judged]) for side in ("given", "label")
    )
    print(
        f"{n_trusted} trusted rows, {cleaned.report['method']}, ignored {cleaned.report['ignored_sources']}: wrong labels "
        f"{before:.4f} as given, {after:.4f} cleaned, n = {len(judged)}"
    )
    return float(after - before)


def is_valid(reply: Reply, labels: Sequence[str]) -> bool:
    """Return whether an answer is the object that the schema asks for, and nothing else."""
    if reply.status != "ok":
        return False
    try:
        reply_fields = msgspec.json.decode(reply.text)
    except msgspec.DecodeError:
        return False
    wanted = {"rationale": str, "label": str, "confidence": (int, float)}
    return (
        isinstance(reply_fields, dict)
        and list(reply_fields) == list(wanted)
        and all(isinstance(reply_fields[name], kind) for name, kind in wanted.items())
        and reply_fields["label"] in labels
    )


def cpu_seconds() -> float:
    """Return the processor time of this process so far, all threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def say(done: int, _: int) -> None:
    """Print how far it is."""
    if done % 50 == 0:
        print(f"  {done} answers", flush=True)


if __name__ == "__main__":
    main()
