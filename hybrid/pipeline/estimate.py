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
from hybrid.stages.synthesize import SYNTHESIZE, draft_writer, planned_drafts
from hybrid.stages.verify import VERIFY, asks_second, teacher_votes
from hybrid.types import Decision, Example

Role = Literal["teacher", "second", "decoder"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One way of asking for less, and what verifying would then cost."""

    what: str
    setting: str
    """The words to add to the command."""
    cost_usd: Range


class RoleEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What one role's model would be asked."""

    role: Role
    model: str
    steps: list[Forecast]
    """A forecast a step, and of the teacher the total; empty where there is nothing to pay."""
    lines: list[str]
    """The same for people, with what it is based on and how it compares to the budget."""


class CostModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a forecast of one role is made from."""

    pricing: Pricing
    tokens: TokenStats
    file: TraceDatabase | None
    spent: Spent = Spent()

    def forecast(self, step: str, requests: Sequence[Request], *, fewest: int | None = None) -> Forecast:
        """Return what asking would come to, answers that the store has left out."""
        left = open_requests(requests, self.pricing.model, self.file)
        return forecast(
            step, left, self.pricing, self.tokens, fewest=None if fewest is None else min(fewest, len(left))
        )


def estimate(context: RunContext, traces: Path) -> list[RoleEstimate]:
    """What each language model of a recipe would be asked, for a run whose rows are split."""
    file = TraceDatabase(traces) if traces.is_file() else None
    return [_of_role(context, role, config, file) for role, config in _paid_roles(context)]


def estimate_lines(estimates: Sequence[RoleEstimate]) -> list[str]:
    """The table that is printed."""
    head = f"  {'step':<10} {'calls':>15} {'tokens in':>19} {'tokens out':>19} {'USD':>17}"
    return [head, *(line for each in estimates for line in each.lines)]


def _of_role(context: RunContext, role: Role, config: LLMConfig, file: TraceDatabase | None) -> RoleEstimate:
    if not backend_of(config, role).is_paid:
        lines = [f"  {role} = {config.model}: nothing to pay"]
        return RoleEstimate(role=role, model=config.model, steps=[], lines=lines)
    costs = open_cost_model(config, context.recipe_dir, role, file)
    closing = _basis(costs)
    if role == "second":
        steps = [costs.forecast(role, _rehearse_second(context, config), fewest=0)]
    elif role == "decoder":
        steps = _rehearsals_of_decoder(context, costs, config)
    else:
        votes = _rehearse_teacher(context, config, context.rows("train"))
        parts = [
            costs.forecast("verify", votes),
            *_votes_again(context, costs, votes),
            *_drafts(context, costs, config, votes),
        ]
        steps = [*parts, total(role, parts)]
        closing += _against_budget(costs, steps[-1], votes, context.rows("train"))
    lines = [*map(_line, steps), *closing]
    return RoleEstimate(role=role, model=config.model, steps=steps, lines=lines)


def open_cost_model(config: LLMConfig, folder: Path, role: str, file: TraceDatabase | None) -> CostModel:
    """Return what a forecast of one section's calls is made from.

    Raises:
        ConfigError: there is a budget and a price is not known.
    """
    pricing = pricing_of(config, folder=folder, role=role)
    spent = run_ledger(file, pricing).spent() if file else Spent()
    return CostModel(pricing=pricing, tokens=token_stats(file, pricing.model), file=file, spent=spent)


def plans(costs: CostModel, votes: Sequence[Request], suspects: set[str], prices: Mapping[str, Price]) -> list[Plan]:
    """Return ways to verify for less: fewer votes, batches, a smaller model, suspects alone, as many rows as fit."""
    pricing = costs.pricing
    assert pricing.budget_usd is not None
    options: list[tuple[str, str, Forecast]] = []
    if any(request.sample for request in votes):
        single = [request for request in votes if not request.sample]
        options.append(("one vote a row", "--set verify.votes=1", costs.forecast("", single)))
    if not pricing.batch and pricing.price and pricing.price.batch is not None:
        batched = msgspec.structs.replace(costs, pricing=msgspec.structs.replace(pricing, batch=True))
        options.append(("in batches, within 24 hours", "--set teacher.batch=true", batched.forecast("", votes)))
    for name in _cheaper(pricing, prices):
        other = msgspec.structs.replace(pricing, model=name, price=prices[name])
        smaller = msgspec.structs.replace(costs, pricing=other, tokens=token_stats(costs.file, name))
        options.append((f"{name} in place of {pricing.model}", f"--teacher {name}", smaller.forecast("", votes)))
    doubtful = [request for request in votes if request.text in suspects]
    if 0 < len(doubtful) < len(votes):
        setting = f"--set verify.max_calls={len(doubtful)}"
        options.append(("rows whose label a classifier doubts", setting, costs.forecast("", doubtful)))
    n_fit = _affordable(costs, votes)
    if 0 < n_fit < len(votes):
        options.append(
            ("as many rows as surely fit", f"--set verify.max_calls={n_fit}", costs.forecast("", votes[:n_fit]))
        )
    return [
        Plan(what=what, setting=setting, cost_usd=cost.cost_usd) for what, setting, cost in options if cost.cost_usd
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
    predicted = cross_val_predict(model, texts, labels, cv=folds)
    return {text for text, label, other in zip(texts, labels, predicted, strict=True) if label != other}


def _paid_roles(context: RunContext) -> list[tuple[Role, LLMConfig]]:
    """Return the sections of the recipe whose models a run would ask."""
    recipe = context.recipe
    second: list[tuple[Role, LLMConfig]] = [("second", recipe.second)]
    return [("teacher", recipe.teacher), *(second if asks_second(recipe) else []), ("decoder", recipe.decoder)]


def _votes_again(context: RunContext, costs: CostModel, votes: Sequence[Request]) -> list[Forecast]:
    """Return what further votes of the same teacher would take: how many rows conflict is not known."""
    verify = context.recipe.verify
    if not verify.more_calls or verify.more == "second":
        return []
    # A further vote's prompt looks like the first one's; another sample is another question.
    again = [msgspec.structs.replace(vote, sample=vote.sample + verify.votes) for vote in votes[: verify.more_calls]]
    return [costs.forecast("again", again, fewest=0)]


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


def _rehearsals_of_decoder(context: RunContext, costs: CostModel, config: LLMConfig) -> list[Forecast]:
    """Return what the decoder is asked: on calibration rows, as many as are set, and on test rows that escalate."""
    weighs = may_weigh_decoder(context.recipe) and context.report("split")["judged_by_gold"]
    rows = context.rows("calibration")[: context.recipe.calibrate.decoder_rows] if weighs else []
    parts = [costs.forecast("calibrate", _rehearse_decoder(context, config, rows))] if rows else []
    return [*parts, costs.forecast("decoder", _rehearse_decoder(context, config, context.rows("test")), fewest=0)]


def _rehearse_decoder(context: RunContext, config: LLMConfig, rows: Sequence[Example]) -> list[Request]:
    decoder = DryRunLLM(config.model)
    context.use_llm("decoder", decoder)
    decoder_votes(context.io(EVALUATE), rows)
    return decoder.requests


def _drafts(context: RunContext, costs: CostModel, config: LLMConfig, votes: Sequence[Request]) -> list[Forecast]:
    """Return what writing drafts and labelling them anew would take, with the labels as they are given."""
    if context.recipe.synthesize.drafts or context.recipe.task == "multi_label":
        return []
    teacher = DryRunLLM(config.model)
    context.use_llm("teacher", teacher)
    given = [
        Decision(id=row.id, action="keep", given=row.label, label=row.label, weight=1.0, probs=(), reason="")
        for row in context.rows("train")
    ]
    io = context.io(SYNTHESIZE)
    if writer := draft_writer(io, given):
        # As many as are planned: a wave that moves nothing ends them earlier.
        writer.write(planned_drafts(given, io.labels, context.recipe.synthesize))
    if not teacher.requests:
        return []
    # A draft's blind vote looks like a row's; which drafts get that far is not known.
    n_votes = len(teacher.requests) * context.recipe.verify.votes
    relabel = forecast("re-label", list(votes[:n_votes]), costs.pricing, costs.tokens, fewest=0)
    return [costs.forecast("drafts", teacher.requests), relabel]


def _cheaper(pricing: Pricing, prices: Mapping[str, Price]) -> list[str]:
    """Return the dearest model that costs at most half, and the cheapest."""
    if pricing.price is None:
        return []
    own = pricing.price
    cheaper = [name for name, p in prices.items() if p.input <= own.input / 2 and p.output <= own.output / 2]
    by_price = sorted(cheaper, key=lambda name: (prices[name].input, name))
    return list(dict.fromkeys([*by_price[-1:], *by_price[:1]]))


def _affordable(costs: CostModel, votes: Sequence[Request]) -> int:
    """Return how many calls the high end of their cost leaves within what is left of the budget."""
    whole = costs.forecast("", votes)
    if not whole.cost_usd or not whole.calls.high or not whole.cost_usd.high:
        return 0
    return int(_left(costs) / (whole.cost_usd.high / whole.calls.high))


def _left(costs: CostModel) -> float:
    return (costs.pricing.budget_usd or 0.0) - costs.spent.settled_usd - costs.spent.unsettled_usd


def _against_budget(costs: CostModel, whole: Forecast, votes: Sequence[Request], rows: Sequence[Example]) -> list[str]:
    budget = costs.pricing.budget_usd
    if budget is None or whole.cost_usd is None:
        return []
    left = _left(costs)
    spent = f"  teacher.budget_usd = {budget:g}: {budget - left:.4f} USD are spent or held, {left:.4f} are left"
    if whole.cost_usd.high <= left:
        return [f"{spent}; that is enough"]
    sure = "is over it at its high end" if whole.cost_usd.low <= left else "is over it"
    cheaper_plans = plans(costs, votes, suspects_of(rows), packaged_prices())
    return [
        f"{spent}; the estimate {sure}, and the run would stop there with every answer kept. Verifying for less:",
        *(f"    {_usd(plan.cost_usd):>17}  {plan.what:<50} {plan.setting}" for plan in cheaper_plans),
    ]


def _basis(costs: CostModel) -> list[str]:
    if costs.tokens.calls:
        return [f"  from {costs.tokens.calls} earlier calls of {costs.pricing.model}, 10th to 90th percentile"]
    return ["  from 2 to 5 bytes a token and answers up to max_tokens; earlier calls will narrow it"]


def _line(step: Forecast) -> str:
    cells = (_count(step.input_tokens), _count(step.output_tokens))
    return f"  {step.step:<10} {_count(step.calls):>15} {cells[0]:>19} {cells[1]:>19} {_usd(step.cost_usd):>17}"


def _count(tokens: Range) -> str:
    low, high = round(tokens.low), round(tokens.high)
    return f"{low}" if low == high else f"{low}-{high}"


def _usd(cost: Range | None) -> str:
    return "price not known" if cost is None else f"{cost.low:.2f}-{cost.high:.2f}"
