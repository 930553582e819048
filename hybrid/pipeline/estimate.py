"""`--estimate`: what a run would ask of its language models and what that costs, before anything is spent."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from hybrid.config import LLMConfig
from hybrid.llm import Request, backend_of, pricing_of
from hybrid.llm.cost.forecast import DryRunLLM, Forecast, Range, TokenStats, forecast, open_requests, token_stats, total
from hybrid.llm.cost.prices import Price, packaged_prices
from hybrid.llm.cost.pricing import Pricing, Spent
from hybrid.llm.cost.trace_ledger import run_ledger
from hybrid.llm.tasks.label import label_request
from hybrid.llm.traces.database import TraceDatabase
from hybrid.pipeline.context import RunContext
from hybrid.stages.asking import decoder_votes, may_weigh_decoder
from hybrid.stages.evaluate import EVALUATE
from hybrid.stages.synthesize import SYNTHESIZE, written_drafts
from hybrid.stages.verify import VERIFY, teacher_votes
from hybrid.types import Decision, Example

Role = Literal["teacher", "second", "decoder"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One way of asking for less, and what verifying would then cost."""

    what: str
    setting: str
    """The words to add to the command."""
    cost_usd: Range


class CostModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a forecast of one role is made from."""

    terms: Pricing
    habits: TokenStats
    file: TraceDatabase | None
    spent: Spent = Spent()

    def forecast(self, step: str, requests: Sequence[Request], *, fewest: int | None = None) -> Forecast:
        """Return what asking would come to, answers that the store has left out."""
        left = open_requests(requests, self.terms.model, self.file)
        return forecast(step, left, self.terms, self.habits, fewest=None if fewest is None else min(fewest, len(left)))


def estimate(context: RunContext, traces: Path) -> list[str]:
    """Return the lines of an estimate for a context whose rows are split."""
    file = TraceDatabase(traces) if traces.is_file() else None
    lines = [f"  {'step':<10} {'calls':>15} {'tokens in':>19} {'tokens out':>19} {'USD':>17}"]
    for role, config in _paid_roles(context):
        if not backend_of(config, role).is_paid:
            lines.append(f"  {role} = {config.model}: nothing to pay")
            continue
        desk = open_cost_model(config, context.recipe_dir, role, file)
        if role == "second":
            lines += [_line(desk.forecast(role, _rehearse_second(context, config), fewest=0)), *_basis(desk)]
            continue
        if role == "decoder":
            lines += [*(_line(part) for part in _rehearsals_of_decoder(context, desk, config)), *_basis(desk)]
            continue
        votes = _rehearse_teacher(context, config, context.rows("train"))
        parts = [
            desk.forecast("verify", votes),
            *_votes_again(context, desk, votes),
            *_drafts(context, desk, config, votes),
        ]
        whole = total(role, parts)
        lines += [_line(part) for part in [*parts, whole]] + _basis(desk)
        lines += _against_budget(desk, whole, votes, context.rows("train"))
    return lines


def open_cost_model(config: LLMConfig, folder: Path, role: str, file: TraceDatabase | None) -> CostModel:
    """Return what a forecast of one section's calls is made from.

    Raises:
        ConfigError: there is a budget and a price is not known.
    """
    terms = pricing_of(config, folder=folder, role=role)
    spent = run_ledger(file, terms).spent() if file else Spent()
    return CostModel(terms=terms, habits=token_stats(file, terms.model), file=file, spent=spent)


def plans(desk: CostModel, votes: Sequence[Request], suspects: set[str], prices: Mapping[str, Price]) -> list[Plan]:
    """Return ways to verify for less: fewer votes, batches, a smaller model, suspects alone, as many rows as fit."""
    terms = desk.terms
    assert terms.budget_usd is not None
    found: list[tuple[str, str, Forecast]] = []
    if any(request.sample for request in votes):
        single = [request for request in votes if not request.sample]
        found.append(("one vote a row", "--set verify.votes=1", desk.forecast("", single)))
    if not terms.batch and terms.price and terms.price.batch is not None:
        batched = msgspec.structs.replace(desk, terms=msgspec.structs.replace(terms, batch=True))
        found.append(("in batches, within 24 hours", "--set teacher.batch=true", batched.forecast("", votes)))
    for name in _cheaper(terms, prices):
        other = msgspec.structs.replace(terms, model=name, price=prices[name])
        smaller = msgspec.structs.replace(desk, terms=other, habits=token_stats(desk.file, name))
        found.append((f"{name} in place of {terms.model}", f"--teacher {name}", smaller.forecast("", votes)))
    doubtful = [request for request in votes if request.text in suspects]
    if 0 < len(doubtful) < len(votes):
        setting = f"--set verify.max_calls={len(doubtful)}"
        found.append(("rows whose label a classifier doubts", setting, desk.forecast("", doubtful)))
    n_fit = _affordable(desk, votes)
    if 0 < n_fit < len(votes):
        found.append(
            ("as many rows as surely fit", f"--set verify.max_calls={n_fit}", desk.forecast("", votes[:n_fit]))
        )
    return [
        Plan(what=what, setting=setting, cost_usd=asked.cost_usd) for what, setting, asked in found if asked.cost_usd
    ]


def suspects_of(rows: Sequence[Example], *, seed: int = 0) -> set[str]:
    """Return the texts whose given label a cross-fitted classifier does not share (complement naive Bayes, 2003)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.naive_bayes import ComplementNB
    from sklearn.pipeline import make_pipeline

    texts, labels = [row.text for row in rows], [row.label for row in rows]
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), ComplementNB())
    folds = StratifiedKFold(n_splits=5, shuffle=True, random_state=seed)
    said = cross_val_predict(model, texts, labels, cv=folds)
    return {text for text, label, found in zip(texts, labels, said, strict=True) if label != found}


def _paid_roles(context: RunContext) -> list[tuple[Role, LLMConfig]]:
    """Return the sections of the recipe whose models a run would ask."""
    recipe = context.recipe
    second: list[tuple[Role, LLMConfig]] = [("second", recipe.second)]
    asked = bool(recipe.verify.more_calls) and recipe.verify.more == "second"
    return [("teacher", recipe.teacher), *(second if asked else []), ("decoder", recipe.decoder)]


def _votes_again(context: RunContext, desk: CostModel, votes: Sequence[Request]) -> list[Forecast]:
    """Return what further votes of the same teacher would take: how many rows conflict is not known."""
    verify = context.recipe.verify
    if not verify.more_calls or verify.more == "second":
        return []
    # A further vote's prompt looks like the first one's; another sample is another question.
    again = [msgspec.structs.replace(one, sample=one.sample + verify.votes) for one in votes[: verify.more_calls]]
    return [desk.forecast("again", again, fewest=0)]


def _rehearse_second(context: RunContext, config: LLMConfig) -> list[Request]:
    """Return the questions to a second teacher, as many as it may be asked."""
    verify, rows = context.recipe.verify, context.rows("train")
    policy = context.policy(config)
    return [
        label_request("verify", row.text, context.labels, config, policy=policy) for row in rows[: verify.more_calls]
    ]


def _rehearse_teacher(context: RunContext, config: LLMConfig, rows: Sequence[Example]) -> list[Request]:
    """Return the first questions to the teacher: what is asked again depends on the answers."""
    verify = msgspec.structs.replace(context.recipe.verify, more_calls=0)
    once = RunContext(
        msgspec.structs.replace(context.recipe, verify=verify), context.recipe_dir, context.run, context.traces
    )
    teacher = DryRunLLM(config.model)
    once.use_llm("teacher", teacher)
    teacher_votes(once.io(VERIFY), rows)
    return teacher.requests


def _rehearsals_of_decoder(context: RunContext, desk: CostModel, config: LLMConfig) -> list[Forecast]:
    """Return what the decoder is asked: on calibration rows, as many as are set, and on test rows that escalate."""
    weighs = may_weigh_decoder(context.recipe) and context.report("split")["judged_by_gold"]
    asked = context.rows("calibration")[: context.recipe.calibrate.decoder_rows] if weighs else []
    parts = [desk.forecast("calibrate", _rehearse_decoder(context, config, asked))] if asked else []
    return [*parts, desk.forecast("decoder", _rehearse_decoder(context, config, context.rows("test")), fewest=0)]


def _rehearse_decoder(context: RunContext, config: LLMConfig, rows: Sequence[Example]) -> list[Request]:
    decoder = DryRunLLM(config.model)
    context.use_llm("decoder", decoder)
    decoder_votes(context.io(EVALUATE), rows)
    return decoder.requests


def _drafts(context: RunContext, desk: CostModel, config: LLMConfig, votes: Sequence[Request]) -> list[Forecast]:
    """Return what writing drafts and labelling them anew would take, with the labels as they are given."""
    if context.recipe.synthesize.drafts or context.recipe.task == "multi_label":
        return []
    teacher = DryRunLLM(config.model)
    context.use_llm("teacher", teacher)
    given = [
        Decision(id=row.id, action="keep", given=row.label, label=row.label, weight=1.0, probs=(), reason="")
        for row in context.rows("train")
    ]
    written_drafts(context.io(SYNTHESIZE), given)
    if not teacher.requests:
        return []
    # A draft's blind vote looks like a row's; which drafts get that far is not known.
    n_votes = len(teacher.requests) * context.recipe.verify.votes
    relabel = forecast("re-label", list(votes[:n_votes]), desk.terms, desk.habits, fewest=0)
    return [desk.forecast("drafts", teacher.requests), relabel]


def _cheaper(terms: Pricing, prices: Mapping[str, Price]) -> list[str]:
    """Return the dearest model that costs at most half, and the cheapest."""
    if terms.price is None:
        return []
    own = terms.price
    found = [name for name, p in prices.items() if p.input <= own.input / 2 and p.output <= own.output / 2]
    by_price = sorted(found, key=lambda name: (prices[name].input, name))
    return list(dict.fromkeys([*by_price[-1:], *by_price[:1]]))


def _affordable(desk: CostModel, votes: Sequence[Request]) -> int:
    """Return how many calls the high end of their cost leaves within what is left of the budget."""
    whole = desk.forecast("", votes)
    if not whole.cost_usd or not whole.calls.high or not whole.cost_usd.high:
        return 0
    return int(_left(desk) / (whole.cost_usd.high / whole.calls.high))


def _left(desk: CostModel) -> float:
    return (desk.terms.budget_usd or 0.0) - desk.spent.settled_usd - desk.spent.unsettled_usd


def _against_budget(desk: CostModel, whole: Forecast, votes: Sequence[Request], rows: Sequence[Example]) -> list[str]:
    budget = desk.terms.budget_usd
    if budget is None or whole.cost_usd is None:
        return []
    left = _left(desk)
    said = f"  teacher.budget_usd = {budget:g}: {budget - left:.4f} USD are spent or held, {left:.4f} are left"
    if whole.cost_usd.high <= left:
        return [f"{said}; that is enough"]
    sure = "is over it at its high end" if whole.cost_usd.low <= left else "is over it"
    found = plans(desk, votes, suspects_of(rows), packaged_prices())
    return [
        f"{said}; the estimate {sure}, and the run would stop there with every answer kept. Verifying for less:",
        *(f"    {_usd(plan.cost_usd):>17}  {plan.what:<50} {plan.setting}" for plan in found),
    ]


def _basis(desk: CostModel) -> list[str]:
    if desk.habits.calls:
        return [f"  from {desk.habits.calls} earlier calls of {desk.terms.model}, 10th to 90th percentile"]
    return ["  from 2 to 5 bytes a token and answers up to max_tokens; earlier calls will narrow it"]


def _line(found: Forecast) -> str:
    cells = (_count(found.input_tokens), _count(found.output_tokens))
    return f"  {found.step:<10} {_count(found.calls):>15} {cells[0]:>19} {cells[1]:>19} {_usd(found.cost_usd):>17}"


def _count(found: Range) -> str:
    low, high = round(found.low), round(found.high)
    return f"{low}" if low == high else f"{low}-{high}"


def _usd(found: Range | None) -> str:
    return "price not known" if found is None else f"{found.low:.2f}-{found.high:.2f}"
