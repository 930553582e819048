"""Installed versions against what the package asks for, extra by extra."""

from importlib.metadata import PackageNotFoundError, metadata, version

from packaging.requirements import Requirement

from hybrid.doctor.check import Check

DISTRIBUTION = "hybrid-cascade"
USED = (
    "train", "llm", "local", "student", "serve", "client", "xlsx", "completion", "openvino", "ray", "s3", "gs", "abfs", "optimum",
    "postgresql", "telemetry",
)  # fmt: skip
"""The extras that somebody may want, in the order in which they are shown."""


def package_checks() -> list[Check]:
    """One line for versions that do not fit, and one for the extras that are there."""
    try:
        wheel = metadata(DISTRIBUTION)
    except PackageNotFoundError:
        return [
            Check(
                name="packages",
                fact=f"{DISTRIBUTION} is not installed: it runs from its folder",
                verdict="unknown",
                because="the versions that it asks for are not known",
                remedy="pip install -e . in that folder",
            )
        ]
    requirements = [Requirement(line) for line in wheel.get_all("Requires-Dist") or []]
    extras = set(wheel.get_all("Provides-Extra") or [])
    lacking = {extra: missing(requirements, extra) for extra in USED if extra in extras}
    whole = [extra for extra, names in lacking.items() if not names]
    part = [f"{extra} lacks {', '.join(names)}" for extra, names in lacking.items() if names]
    return [
        versions_check(requirements),
        Check(name="extras", fact=f"{', '.join(whole) or 'none'}" + (f"; {'; '.join(part)}" if part else "")),
    ]


def versions_check(requirements: list[Requirement]) -> Check:
    """Whether every package that is installed has a version that is asked for."""
    wrong, fitting = [], 0
    for requirement in requirements:
        extra = "" if requirement.marker is None else str(requirement.marker)
        installed = _installed(requirement.name)
        if installed is None or "'optimum'" in extra.replace('"', "'") or not _applies(requirement):
            continue  # optimum wants an environment of its own, with other versions
        if requirement.specifier.contains(installed, prereleases=True):
            fitting += 1
        else:
            wrong.append((requirement, installed))
    if not wrong:
        return Check(name="packages", fact=f"{DISTRIBUTION} {version(DISTRIBUTION)}; {fitting} versions fit")
    return Check(
        name="packages",
        fact=", ".join(f"{requirement.name} {installed}" for requirement, installed in wrong),
        verdict="fails",
        because=f"expected {', '.join(f'{requirement.name} {requirement.specifier}' for requirement, _ in wrong)}",
        remedy="pip install " + " ".join(f"'{requirement.name}{requirement.specifier}'" for requirement, _ in wrong),
    )


def missing(requirements: list[Requirement], extra: str) -> list[str]:
    """The packages of an extra that are not installed, those of the extras that it includes among them."""
    names: list[str] = []
    for requirement in requirements:
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name == DISTRIBUTION:
            names += [name for part in sorted(requirement.extras) for name in missing(requirements, part)]
        elif _installed(requirement.name) is None:
            names.append(requirement.name)
    return list(dict.fromkeys(names))


def _applies(requirement: Requirement) -> bool:
    """Whether the requirement is for this system, with whichever extra."""
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *USED, "recipe", "all", "dev"))


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
