"""Types of command-line arguments: numbers that a wrong sign or range would turn into nonsense."""

import argparse


def count(text: str) -> int:
    """Read a number of rows, votes or the like: 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number


def whole(text: str) -> int:
    """Read a number of further rows: 0 or more."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return number


def share(text: str) -> float:
    """Read a probability, from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a probability, from 0 to 1, got {text}")
    return number
