"""SHA-256 of files and of values: what stamps, manifests and trace keys compare."""

import hashlib
from pathlib import Path

import msgspec


def sha256_of_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(value: object) -> str:
    """Return the hexadecimal SHA-256 of a value's JSON, its keys sorted."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
