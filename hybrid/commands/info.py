"""`hybrid info`: what a bundle is and what it promises."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.commands.arguments import add_bundle, add_json

if TYPE_CHECKING:
    from hybrid.runtime.text_encoder import TextLimits


CARD = "README.md"
"""The model card beside a bundle's manifest."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid info`."""
    add_bundle(parser)
    add_json(parser)
    parser.set_defaults(act=_info)


def _info(options: argparse.Namespace) -> object:
    from hybrid.runtime.bundle import bundle_path

    return show(bundle_path(options.bundle))


def show(folder: Path) -> dict[str, Any]:
    """Print what a bundle is, and return its manifest without golden texts and curve, and what answers on this machine.

    Raises:
        BundleError: there is no bundle, or a file of it was changed.
    """
    import msgspec

    import hybrid
    from hybrid.runtime.bundle import MODEL, read_bundle
    from hybrid.runtime.made_with import other_versions
    from hybrid.runtime.promises import promise_lines, threshold_line

    bundle = read_bundle(folder)
    size = (folder / MODEL).stat().st_size / 1e6
    others = other_versions(bundle.versions)
    answers = hybrid.load(folder).bundle.precision if bundle.fallback else bundle.precision
    for name, value in {
        "name": bundle.name,
        "labels": ", ".join(bundle.labels),
        "encoder": f"{bundle.encoder}, {bundle.precision}, {size:.0f} MB, {_limits_line(bundle.reading)}",
        "calibration": bundle.calibration.method,
        **({"evidence": "answers can have their evidence words"} if bundle.evidence else {}),
        "threshold": threshold_line(bundle.threshold),
        "recipe": bundle.recipe_hash[:12],
        "files": ", ".join(f"{name} {digest[:12]}" for name, digest in bundle.files.items()) + " (checked)",
        "made with": ", ".join(f"{name} {version}" for name, version in bundle.versions.items()),
        **(
            {"portable": f"{answers} answers on this machine; fp32 where the golden texts do not hold"}
            if bundle.fallback
            else {}
        ),
        **({"scores": scores} if (scores := _scores_line(folder / CARD)) else {}),
        **({"other here": others} if others else {}),
    }.items():
        print(f"{name:<12} {value}")
    for i, line in enumerate(promise_lines(bundle.reference)):
        print(f"{'' if i else 'promises':<12} {line}")
    manifest: dict[str, Any] = msgspec.to_builtins(bundle)
    promises = [msgspec.to_builtins(promise) for promise in bundle.reference.promises] if bundle.reference else []
    for large in ("golden", "reference"):
        del manifest[large]
    return manifest | {"bundle": str(folder), "promises": promises, "answers_here": answers, "other_here": others}


def _scores_line(card: Path) -> str:
    """What the model card says of accuracy and macro-F1, in one line; empty where there is no card."""
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    section = text.partition("\n## Scores\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| (accuracy|macro-F1) \| (.+) \|$", section, re.MULTILINE))
    figures = ", ".join(f"{name} {value}" for name, value in rows.items())
    return f"{figures}; {' '.join(section.partition('|')[0].split())}" if figures else ""


def _limits_line(limits: "TextLimits") -> str:
    if limits.windows != "none":
        return f"windows of {limits.max_length} tokens, {limits.overlap} shared, pooled by {limits.windows}"
    lost = {"right": "its end", "left": "its beginning", "both": "its middle"}[limits.truncate]
    return f"{limits.max_length} tokens; a longer text loses {lost}"
