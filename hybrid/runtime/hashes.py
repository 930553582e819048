"""The proof that nobody changed a file of a bundle."""

from pathlib import Path

from hybrid.errors import BundleError
from hybrid.files.hashing import sha256_of_file


def check_file(path: Path, wanted: str) -> None:
    """Compare the SHA-256 of a file of a bundle with the one that its manifest has.

    Raises:
        BundleError: the file is missing or was changed.
    """
    try:
        found = sha256_of_file(path)
    except OSError as error:
        raise BundleError(f"{path}: missing from the bundle ({error.strerror}); copy the bundle again") from error
    if found != wanted:
        raise BundleError(
            f"{path}: changed since the bundle was made (SHA-256 {found[:12]}…, want {wanted[:12]}…); "
            "copy the bundle again or rerun the recipe"
        )
