"""Label probabilities of a model that continues a prompt: the labels' tokens as a tree, walked from the root.

At each branching the model's probabilities are renormalised over the tokens that some label continues with, so the
probabilities of all labels add up to one, and a label's is the product along its way. Where only one token can follow,
the model is not asked. The tree of single-token labels has one branching: one call a text.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec

from hybrid.errors import ConfigError

LEAST_PROB = 1e-3
"""A way whose probability is below this is not walked to its end: what reached it is dealt evenly to the labels behind it."""
NextProbs = Callable[[tuple[int, ...], tuple[int, ...]], Sequence[float]]
"""Given the tokens so far and the tokens that may follow, the probability of each of these; they add up to one."""


class Node(msgspec.Struct, frozen=True):
    """A place in the tree: the tokens that may follow, and the labels that end there or behind it."""

    children: dict[int, "Node"]
    labels: tuple[int, ...]


def label_tree(label_ids: Sequence[Sequence[int]], labels: Sequence[str]) -> Node:
    """Build the tree of the labels' token ids, each with the token that ends a label.

    Raises:
        ConfigError: the tokens of one label begin, or are, those of another.
    """
    ends = sorted(range(len(labels)), key=lambda i: tuple(label_ids[i]))
    for i, j in pairwise(ends):
        if tuple(label_ids[j][: len(label_ids[i])]) == tuple(label_ids[i]):
            raise ConfigError(
                f"labels {labels[i]!r} and {labels[j]!r}: the tokenizer of the student writes one as the beginning of the "
                "other, so that it cannot tell them apart; rename one of them"
            )
    return _tree(label_ids, tuple(range(len(labels))), 0)


def label_probs(tree: Node, next_probs: NextProbs) -> list[float]:
    """Compute the probability of each label, in the order of the tree's labels."""
    probs: dict[int, float] = {}
    waiting: list[tuple[Node, tuple[int, ...], float]] = [(tree, (), 1.0)]
    while waiting:
        node, path, prob = waiting.pop()
        while len(node.children) == 1:
            token, node = next(iter(node.children.items()))
            path = (*path, token)
        if not node.children:
            probs[node.labels[0]] = prob
        elif prob < LEAST_PROB:
            probs |= {label: prob / len(node.labels) for label in node.labels}
        else:
            tokens = tuple(node.children)
            shares = next_probs(path, tokens)
            waiting += [
                (node.children[token], (*path, token), prob * share)
                for token, share in zip(tokens, shares, strict=True)
            ]
    return [probs[label] for label in sorted(probs)]


def mean_probs(chains: Sequence[Sequence[float]]) -> list[float]:
    """Average the label probabilities [k] of several chains (self-consistency with probabilities)."""
    return [sum(values) / len(chains) for values in zip(*chains, strict=True)]


def _tree(label_ids: Sequence[Sequence[int]], labels: tuple[int, ...], depth: int) -> Node:
    groups: dict[int, list[int]] = {}
    for label in labels:
        if len(label_ids[label]) > depth:
            groups.setdefault(label_ids[label][depth], []).append(label)
    return Node({token: _tree(label_ids, tuple(group), depth + 1) for token, group in groups.items()}, labels)
