"""The result of looking at one thing."""

from typing import Literal

import msgspec

Verdict = Literal["ok", "slow", "fails", "unknown"]
"""Works; works slowly; will not work; could not be found out."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at: what is there, and what that means."""

    name: str
    fact: str
    verdict: Verdict = "ok"
    because: str = ""
    """Why it is slow or fails, or why it is not known; empty where it is ok."""
    remedy: str = ""
    """What to do about it; empty where nothing need be done."""


def render(checks: list[Check]) -> list[str]:
    """One line a check, and one more below it where the verdict needs words."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        lines.append(f"{check.verdict:<8} {check.name:<{width}}  {check.fact}")
        words = "; ".join(part for part in (check.because, check.remedy) if part)
        if words:
            lines.append(f"{'':<8} {'':<{width}}  {words}")
    return lines
