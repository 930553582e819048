"""The prompts, which are package data, and the parts that fill their fields."""

import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from string import Template, ascii_lowercase
from typing import Literal

import msgspec

_TAG_LETTERS = 14
_FENCES = re.compile(rf"\s?(?:</?text-[a-z]{{{_TAG_LETTERS}}}>|</?text-[a-z]*$|```(?:json)?)\s?")
"""The tags of `fence`, also one that is cut off at the end, and the fences of code blocks."""
Name = Literal["verify", "direct", "decide", "synthesize", "attributes", "policy"]


class Prompt(msgspec.Struct, frozen=True):
    """The two halves of a question: what holds for every row, and the row."""

    system: str
    user: str


def prompt_text(name: Name) -> str:
    """The template as it stands in the package. A changed prompt makes the stages that ask with it run again."""
    return files(__name__).joinpath(f"{name}.md").read_text(encoding="utf-8")


def render(name: Name, **fields: str) -> Prompt:
    """Fill the fields of a template. A `$` inside a field stays as it is."""
    system, separator, user = prompt_text(name).removeprefix("## system\n").partition("\n## user\n")
    assert separator, f"{name}.md has no line '## user'"
    return Prompt(system=Template(system).substitute(fields).strip(), user=Template(user).substitute(fields).strip())


def fence(text: str) -> str:
    """Put a row's text between two tags that it cannot close, so that a model can tell data from instructions.

    The name of the tag carries a digest of the text, drawn again until the text does not contain the name.
    """
    draw = 0
    while (tag := f"text-{_digest(f'{draw}:{text}')}") in text.lower():
        draw += 1
    return f"<{tag}>\n{text}\n</{tag}>"


def without_fences(words: str) -> str:
    """What a model wrote, without the tags of `fence` and without code fences: small models repeat and add them."""
    return _FENCES.sub(" ", words).strip() if "text-" in words or "```" in words else words


def label_list(labels: Sequence[str]) -> str:
    """The labels as a list in a prompt: one a line, quoted as JSON."""
    return "\n".join(f"- {json.dumps(label, ensure_ascii=False)}" for label in labels)


def policy_section(policy: str) -> str:
    """The labelling policy as a section of a prompt; empty where there is none."""
    return f"The labelling policy:\n\n{policy.strip()}\n" if policy.strip() else ""


def text_hash(text: str) -> str:
    """The version of a policy or a prompt: 12 hex digits of the SHA-256 of its text; empty for no text."""
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:12] if text.strip() else ""


def _digest(text: str) -> str:
    """65 bits of the SHA-256 in letters, because models read digits one by one and letters two at a time."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return "".join(ascii_lowercase[byte % len(ascii_lowercase)] for byte in digest[:_TAG_LETTERS])
