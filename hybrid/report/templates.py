"""The templates of the page and the cards, and how they format figures."""

import html
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

UNKNOWN = "unknown"


def source(name: str) -> str:
    """Read a file of this package as text."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def template(name: str) -> Template:
    """Load a template; values are escaped, and a missing value is an error."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "percent": percent,
        "figure": figure,
        "number": number,
        "seconds": seconds,
        "dollars": dollars,
        "span": span,
        "cell": cell,
    }
    return environment.from_string(source(name))


def percent(share: float | None, digits: int = 1) -> str:
    """Format a share, 0 to 1, as a percentage."""
    return UNKNOWN if share is None else f"{share:.{digits}%}"


def figure(value: float | None, digits: int = 3) -> str:
    """Format a score, with three digits by default."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def number(count: int) -> str:
    """Format a count with thousands separators."""
    return f"{count:,}"


def seconds(value: float) -> str:
    """Format a duration in seconds, or in minutes from two minutes on."""
    return f"{value / 60:.1f} min" if value >= 120 else f"{value:.1f} s"


def dollars(cost: float | None) -> str:
    """Format a cost in US dollars; None is an unknown price, not zero."""
    return "price unknown" if cost is None else f"${cost:.2f}" if cost == 0 or cost >= 0.01 else f"${cost:.4f}"


def span(bounds: tuple[float, float]) -> str:
    """Format the interval of a score."""
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def cell(text: str) -> Markup:
    """Escape text for one cell of a Markdown table, so that it contains no Markdown or HTML markup."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    for mark in "\\|*_`[]":
        escaped = escaped.replace(mark, f"&#{ord(mark)};")
    return Markup(escaped)
