"""The card of a student: what the file is, what it learned from, what it was measured to do."""

from collections.abc import Sequence

from hybrid.types import Report


def student_card(report: Report, recipe: str, labels: Sequence[str]) -> str:
    """Write the card as Markdown."""
    test, parity = report["test"], report["parity"]
    adapters = f"adapters of rank {report['lora_rank']}, merged" if report["lora_rank"] else "all weights"
    counts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in report["data"]["traces"].items() if n)
    lines = [
        f"# Student of the recipe {recipe}",
        "",
        f"A decoder that gives a text one of the labels {', '.join(labels)} with a probability, and says why where it is asked. "
        f"It is `{report['base']}`, fine-tuned on a teacher's reasons in the layout `{report['layout']}` ({adapters}).",
        "",
        f"- file: {report['bytes'] / 1e6:.0f} MB, SHA-256 `{report['sha256']}`",
        f"- trained on {report['fitted']} rows, watched on {report['validation']}; {report['steps']} steps, "
        f"{report['tokens']} tokens, {report['precision']}",
        f"- traces: {counts}",
    ]
    if test["rows"]:
        judge = "test rows with gold labels" if report["judged_by_gold"] else "test rows, by their given labels"
        lines.append(
            f"- alone, on {test['rows']} {judge}: accuracy {test['accuracy']:.3f}, macro-F1 {test['macro_f1']:.3f}, ECE "
            f"{test['ece']:.3f} (uncalibrated)"
        )
    lines += [
        f"- llama.cpp against torch: label log-probabilities of the F16 file within {parity['max_log_prob_difference']:.3f} on "
        f"{parity['f16_rows']} texts, {parity['agreement']:.1%} of {parity['served_rows']} decisions the same in this file",
        "",
        "Its reasons are what it says, not evidence: a wrong label comes with an equally smooth reason.",
        "",
    ]
    return "\n".join(lines)
