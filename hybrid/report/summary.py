"""`summary.json`: the figures of a run under stable keys.

Documented keys (a dot separates levels; a figure that cannot be known is null, never left out):

- `labels.wrong_given`, `labels.wrong_cleaned`: share of training labels that differ from gold,
  mean over the seeds; null without gold. `labels.wrong_cleaned_untrusted`: the same without the trusted rows.
- `judged_by_gold`: whether every calibration and test row has a gold label; `trusted` is its name in version 0.1.0.
- `task`: single_label or multi_label. With the latter every `accuracy` counts rows whose whole set of labels is
  right, ECE measures the confidence in the whole set, and Brier and NLL are summed over the labels.
- `test.<variant>.accuracy`, `.macro_f1`: mean over the seeds; `.accuracy_seeds`, `.macro_f1_seeds` those
  of each seed; `.accuracy_interval`, `.macro_f1_interval` (served variant) bootstrap, first seed.
  Variants: the encoder on `given`, `cleaned`, `cleaned_synthetic`, `gold`; `tfidf_given` and so on.
- `test.without_twins`: the served variant without the test rows that have a near-duplicate in train.
- `way_to_ceiling.accuracy`, `.macro_f1`: (cleaned - given) / (gold - given), with `--ablate`.
- `calibration.ece_before`, `.ece_after`, `.brier_*`, `.nll_*`: on test, mean over the seeds; `calibration.method`.
  `calibration.basis`: the labels it learns from, `gold`, `votes`, `confusion` (what cleaning corrected) or `given` (none).
  `.ece_refit_mean`, `.ece_refit95`: mean and 95th percentile of the ECE of the calibrator refitted on drawn labels, by which
  `.ece_after` is judged; `.ece_null_mean`, `.ece_null95`: those of perfect probabilities.
- `threshold.value`, `.target`, `.delta`, `.met`, `.kept`, `.rows_needed`: from the calibration rows;
  `threshold.test.*`: what it does to the test rows.
- `cascade[]`: `share`, `escalated`, `threshold`, `accuracy`, `macro_f1`.
- `precision.served`, `.rows`, `.margin`, `.level`, `.bytes`, `.bytes_fp32`: the served precision and the test that it passed;
  `.rungs[]`: each precision that was tried, with `.ms_a_text`; `.test_fp32.accuracy`, `.macro_f1`: the fp32 graph on the same
  test rows. `.fallback`: the graph that a portable bundle carries beside the served one, with its `.threshold`; null without
  one. First seed.
- `seconds.<stage>`: the time of the stage's last execution, first seed.
- `llm.calls`, `llm.cost_usd`: live calls of the last execution, all seeds; recorded answers are not calls.
  `llm.teacher`, `llm.decoder`: names, `llm.recorded`: which of the two are recorded.
- `machine`: system, Python, processor and its features, threads, total memory in bytes, where the summary
  was written.
- `seeds[]`: the same figures for each seed.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from hybrid.config import recipe_hash
from hybrid.files.table import read_rows
from hybrid.llm import backend_of
from hybrid.machine.facts import this_machine
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.pipeline.stages import stage_names
from hybrid.runtime.made_with import versions
from hybrid.types import PrecisionTrial, Report

CALIBRATION = (
    "ece_before",
    "ece_after",
    "ece_null_mean",
    "ece_null95",
    "ece_refit_mean",
    "ece_refit95",
    "brier_before",
    "brier_after",
    "nll_before",
    "nll_after",
)


class SeedFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one seed's run."""

    seed: int
    labels: dict[str, float | None]
    test: dict[str, dict[str, Any]]
    calibration: dict[str, float | None]
    threshold: dict[str, Any]
    llm_calls: int
    llm_cost_usd: float | None

    @classmethod
    def read(cls, context: RunContext, variants: Sequence[str]) -> "SeedFigures":
        """Read the figures of a finished run; the first of `variants` is the served one."""
        run = context.run
        evaluated = run.report("evaluate")
        served, *others = variants
        test: dict[str, dict[str, Any]] = {served: evaluated["encoder"]}
        for variant in others:
            judged = run.report(f"ablate/{variant}")
            test[variant] = {name: judged[name] for name in ("accuracy", "macro_f1")}
        test |= {f"tfidf_{name}": scores for name, scores in evaluated["tfidf"].items()}
        verified = run.report("verify")
        usages = [verified, verified.get("second", {}), evaluated["decoder"], run.report("synthesize").get("llm", {})]
        return cls(
            seed=context.recipe.seed,
            labels=evaluated["labels"],
            test=test,
            calibration={name: evaluated["calibration"].get(name) for name in CALIBRATION},
            threshold=evaluated["threshold"],
            llm_calls=sum(usage.get("calls", 0) for usage in usages),
            llm_cost_usd=_total(usage.get("cost_usd", 0.0) for usage in usages),
        )


def summarise(context: RunContext, figures: Sequence[SeedFigures]) -> Report:
    """Build the summary of a run; the first of `figures` belongs to the run's own seed."""
    first, run = figures[0], context.run
    evaluated, calibrated = run.report("evaluate"), run.report("calibrate")
    test = {variant: _over_seeds([seed.test[variant] for seed in figures]) for variant in first.test}
    return {
        "name": context.recipe.name,
        "profile": context.recipe.profile,
        "task": context.recipe.task,
        "served": next(iter(first.test)),
        "rows": run.report("split")["parts"],
        "judged_by_gold": evaluated["judged_by_gold"],
        "trusted": evaluated["judged_by_gold"],
        "labels": {name: _mean(seed.labels[name] for seed in figures) for name in first.labels},
        "test": test | {"without_twins": evaluated["without_twins"]},
        "way_to_ceiling": {name: _way_to_ceiling(test, name) for name in ("accuracy", "macro_f1")},
        "precision": _precision(run, evaluated),
        "calibration": {name: _mean(seed.calibration[name] for seed in figures) for name in CALIBRATION}
        | {"method": calibrated["method"], "basis": calibrated.get("labels", {}).get("basis")},
        "threshold": calibrated["threshold"] | {"test": evaluated["threshold"]},
        "cascade": evaluated["cascade"],
        "seconds": {stage: run.report(stage)["seconds"] for stage in stage_names(context.recipe)},
        "llm": {
            "calls": sum(seed.llm_calls for seed in figures),
            "cost_usd": _total(seed.llm_cost_usd for seed in figures),
            "teacher": context.recipe.teacher.model,
            "decoder": context.recipe.decoder.model,
            "recorded": [
                role
                for role, llm in (("teacher", context.recipe.teacher), ("decoder", context.recipe.decoder))
                if backend_of(llm).is_recorded
            ],
        },
        "recipe_hash": recipe_hash(context.recipe),
        "versions": versions(),
        "machine": _machine(),
        "seeds": [msgspec.to_builtins(seed) for seed in figures],
    }


def _machine() -> Report:
    """The facts of the machine that stay the same: the same run gives the same bytes."""
    facts: Report = msgspec.to_builtins(this_machine())
    del facts["memory"]["available"]
    return facts


def _precision(run: Run, evaluated: Report) -> Report:
    quantized = run.report("quantize")
    trials = read_rows(run.path("quantize", "rungs.jsonl"), PrecisionTrial)
    return {
        "served": quantized["precision"],
        "rows": quantized["rows"],
        "margin": quantized["margin"],
        "level": quantized["level"],
        "bytes": quantized["bytes"],
        "bytes_fp32": quantized["bytes_fp32"],
        "ms_a_text_fp32": quantized["ms_a_text"]["fp32"],
        "rungs": [
            msgspec.to_builtins(trial) | {"ms_a_text": quantized["ms_a_text"][trial.precision]} for trial in trials
        ],
        "test_fp32": evaluated["fp32"],
        "fallback": run.report("calibrate").get("fallback"),
    }


def _over_seeds(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average the scores over the seeds; keep each seed's own scores, and the first seed's other figures."""
    names = ("accuracy", "macro_f1")
    means = {name: _mean(score[name] for score in scores) for name in names}
    return scores[0] | means | {f"{name}_seeds": [score[name] for score in scores] for name in names}


def _way_to_ceiling(test: dict[str, dict[str, Any]], name: str) -> float | None:
    """Compute the share of the gap between given and gold labels that cleaned labels close."""
    if not {"given", "cleaned", "gold"} <= set(test):
        return None
    given, cleaned, gold = (test[variant][name] for variant in ("given", "cleaned", "gold"))
    return round((cleaned - given) / (gold - given), 4) if gold > given else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 6) if known else None


def _total(costs: Iterable[float | None]) -> float | None:
    """Sum the costs; None if a price is unknown."""
    all_costs = list(costs)
    return None if any(cost is None for cost in all_costs) else round(sum(cost or 0.0 for cost in all_costs), 6)
