"""`hybrid doctor`: what this machine is, and what will happen on it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.commands.arguments import add_json

if TYPE_CHECKING:
    from hybrid.doctor.check import Check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid doctor`."""
    parser.add_argument("bundle", nargs="?", help="a bundle whose golden texts are checked and timed here")
    add_json(parser)
    parser.set_defaults(act=_doctor)


def _doctor(options: argparse.Namespace) -> object:
    from hybrid.doctor.check import render
    from hybrid.machine.facts import this_machine
    from hybrid.runtime.bundle import bundle_path

    machine = this_machine()
    checks = examine() if options.bundle is None else _examine_bundle(bundle_path(options.bundle))
    if not options.json:
        print(f"{machine.system}, Python {machine.python}\n")
        print("\n".join(render(checks)))
        failing = [check.name for check in checks if check.verdict == "fails"]
        print(f"\n{'will not work: ' + ', '.join(failing) if failing else 'nothing here stands in the way'}")
    return {"machine": machine, "checks": checks}


def examine() -> "list[Check]":
    """Look at the machine, the packages, the environment and the network, and try a few training steps."""
    from hybrid.doctor.environment import environment_checks
    from hybrid.doctor.int8 import int8_check
    from hybrid.doctor.machine import machine_checks
    from hybrid.doctor.network import network_checks
    from hybrid.doctor.packages import package_checks
    from hybrid.doctor.training import training_checks
    from hybrid.machine.facts import this_machine

    machine = this_machine()
    return [
        *machine_checks(machine),
        *package_checks(),
        *environment_checks(),
        *network_checks(),
        int8_check(machine.processor),
        *training_checks(),
    ]


def _examine_bundle(folder: Path) -> "list[Check]":
    from hybrid.doctor.bundle import bundle_checks
    from hybrid.doctor.machine import processor_check, threads_check
    from hybrid.machine.facts import this_machine

    machine = this_machine()
    return [processor_check(machine.processor), threads_check(machine.threads), *bundle_checks(folder)]
