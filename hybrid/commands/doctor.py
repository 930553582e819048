"""`hybrid doctor`: what this machine is, and what will happen on it."""

import argparse
from pathlib import Path

import msgspec

from hybrid.doctor.check import Check, render


def add_doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `hybrid`."""
    command = commands.add_parser("doctor", help="what this machine is, what works on it, and how fast")
    command.add_argument("bundle", nargs="?", type=Path, help="a bundle whose golden texts are checked and timed here")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(act=_doctor)


def _doctor(options: argparse.Namespace) -> None:
    from hybrid.machine.facts import this_machine

    machine = this_machine()
    checks = examine() if options.bundle is None else _examine_bundle(options.bundle)
    if options.json:
        print(msgspec.json.encode({"machine": machine, "checks": checks}).decode())
        return
    print(f"{machine.system}, Python {machine.python}\n")
    print("\n".join(render(checks)))
    failing = [check.name for check in checks if check.verdict == "fails"]
    print(f"\n{'will not work: ' + ', '.join(failing) if failing else 'nothing here stands in the way'}")


def examine() -> list[Check]:
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


def _examine_bundle(folder: Path) -> list[Check]:
    from hybrid.doctor.bundle import bundle_checks
    from hybrid.doctor.machine import processor_check, threads_check
    from hybrid.machine.facts import this_machine

    machine = this_machine()
    return [processor_check(machine.processor), threads_check(machine.threads), *bundle_checks(folder)]
