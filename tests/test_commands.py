"""Every command of `hybrid`: its help, its example, what it imports, what it prints for programs, and how it refuses."""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from hybrid.__main__ import main
from hybrid.command_exit import STATUSES
from hybrid.commands.completion import _parsers, whole_parser
from hybrid.commands.parsing import parser_of, read_words
from hybrid.commands.table import COMMANDS, GROUPS, Command, command_named
from hybrid.recipe import main as recipe_main
from tests.conftest import hybrid_recipe
from tests.test_dependencies import declared, normal

NAMES = [command.name for command in COMMANDS]
CHECKOUT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "sklearn", "scipy", "pandas", "datasets", "cleanlab", "matplotlib", "pyarrow", "numpy",
         "onnxruntime", "tokenizers", "anthropic", "starlette", "uvicorn", "sqlalchemy")  # fmt: skip
"""What no help page needs."""


def help_of(*words: str) -> str:
    printed = io.StringIO()
    with redirect_stdout(printed):
        try:
            status = main([*words, "--help"])
        except SystemExit as done:
            status = int(done.code or 0)
    assert status == 0
    return printed.getvalue()


def child(code: str, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )


def parsers() -> Iterator[ArgumentParser]:
    """The parser of each command, and of each step of one."""
    yield from (each for each in _parsers(whole_parser()) if each.prog != "hybrid")


def test_the_page_of_help_has_every_command_under_its_group_and_every_exit_status() -> None:
    page = help_of()
    assert {command.group for command in COMMANDS} == set(GROUPS)
    for command in COMMANDS:
        assert f"\n  {command.name} " in page.split(GROUPS[command.group])[1].split("\n\n")[0]
    assert all(f"{status}  {meaning}" in page for status, meaning in STATUSES.items())


def test_the_page_of_the_documentation_has_every_command_and_every_exit_status() -> None:
    page = (CHECKOUT / "docs" / "commands.md").read_text()
    assert [each.prog for each in parsers() if each.prog not in page and each.prog.split()[1] not in page] == []
    assert all(f"| {status} | {meaning} |" in page for status, meaning in STATUSES.items())
    alone = ", ".join(f"`{command.name}`" for command in COMMANDS if not command.extra)
    assert " and ".join(alone.rsplit(", ", 1)) in page


def test_every_help_ends_with_an_example_of_that_very_command() -> None:
    for parser in parsers():
        text = parser.format_help()
        assert text.splitlines()[-2] == "example:", parser.prog
        assert parser.prog in text.splitlines()[-1]
        assert "%(" not in text


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_the_words_of_an_example_are_words_of_the_command(command: Command) -> None:
    line = command.example.removeprefix('eval "$(').removesuffix(')"')
    program, name, *words = shlex.split(line)
    assert (program, name) == ("hybrid", command.name)
    assert callable(read_words(parser_of(command), words).act)


def test_the_page_of_help_imports_the_standard_library_alone() -> None:
    code = """
import contextlib, io, sys
from hybrid.__main__ import main
with contextlib.redirect_stdout(io.StringIO()):
    main(["--help"])
print(sorted({name.partition(".")[0] for name in ("msgspec", "numpy", "serving") if name in sys.modules}))
"""
    assert child(code).stdout.strip() == "[]"


def test_no_help_imports_what_is_heavy() -> None:
    code = f"""
import contextlib, io, sys
from hybrid.__main__ import main
for words in [["--help"], ["--version"], *([name, "--help"] for name in {NAMES!r})]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(words)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = child(code)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_what_uses_a_bundle_imports_no_torch(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\nwarm soup\n")
    bundle = str(finished / "bundle")
    code = f"""
import sys
from hybrid.__main__ import main
for words in (["predict", {bundle!r}, "warm soup"], ["info", {bundle!r}], ["doctor", {bundle!r}], ["list"],
              ["score", "rows.csv", "out.csv", "--bundle", {bundle!r}]):
    assert main(words) == 0, words
print([name for name in ("torch", "transformers", "sklearn", "scipy", "pandas", "datasets") if name in sys.modules])
"""
    done = child(code, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr + done.stdout


def runtime_closure() -> set[str]:
    """The distributions that the runtime's dependencies bring, themselves among them."""
    closure: set[str] = set()
    waiting = list(declared(""))
    while waiting:
        name = normal(waiting.pop())
        if name in closure:
            continue
        closure.add(name)
        requirements = [Requirement(text) for text in distribution(name).requires or ()]
        waiting += [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    return closure


WITHOUT_EXTRAS = {
    "advise": ["rows.csv", "--label", "label"],
    "new": ["reviews", "--data", "rows.csv", "--text", "text", "--label", "label"],
    "estimate": ["sentiment"],
    "run": ["sentiment"],
    "bundle": ["RUN", "target"],
    "predict": ["BUNDLE", "warm soup"],
    "info": ["BUNDLE"],
    "score": ["rows.csv", "scored.csv", "--bundle", "BUNDLE"],
    "serve": ["BUNDLE"],
    "why": ["RUN", "1"],
    "review": ["export", "RUN", "looks.csv"],
    "policy": ["sentiment"],
    "pilot": ["sentiment"],
    "student": ["sentiment"],
    "traces": ["cost", "store.sqlite"],
    "doctor": ["BUNDLE"],
    "list": [],
    "completion": ["bash"],
}
"""Words with which each command would do its work, were its packages there."""


@pytest.mark.slow
def test_the_runtime_alone_runs_what_it_can_and_names_the_extra_of_everything_else(
    finished: Path, tmp_path: Path
) -> None:
    lines = [f"soup number {number},{('good', 'bad')[number % 2]}" for number in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]))
    shutil.copy(CHECKOUT / "tests" / "golden" / "traces.sqlite", tmp_path / "store.sqlite")
    kept = runtime_closure()
    blocked = [
        module
        for module, names in packages_distributions().items()
        if not {normal(name) for name in names} & (kept | {"hybrid-cascade", "pip", "setuptools"})
    ]
    places = {"RUN": str(finished), "BUNDLE": str(finished / "bundle")}
    words = {name: [name, *(places.get(word, word) for word in WITHOUT_EXTRAS[name])] for name in NAMES}
    code = f"""
import contextlib, io, json, sys
for name in {blocked!r}:
    sys.modules[name] = None
from hybrid.__main__ import main
ends = {{}}
for name, words in {words!r}.items():
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        ends[name] = [main(words), errors.getvalue()]
print(json.dumps(ends))
"""
    done = child(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    for command in COMMANDS:
        status, error = ends[command.name]
        if not command.extra:
            assert status == 0, (command.name, error)
            continue
        assert status == 2, (command.name, error)
        assert error.count("\n") == 1, error
        assert f"pip install 'hybrid-cascade[{command.extra}]'" in error


UNKNOWN = {
    "advise": ["absent.csv", "--label", "label"],
    "new": ["reviews", "--data", "absent.csv", "--text", "text", "--label", "label"],
    "estimate": ["absent.toml"],
    "run": ["absent.toml"],
    "bundle": ["absent", "target"],
    "predict": ["absent", "warm soup"],
    "info": ["absent"],
    "score": ["absent.csv", "scored.csv", "--bundle", "absent"],
    "serve": ["absent"],
    "why": ["absent", "1"],
    "review": ["export", "absent", "looks.csv"],
    "policy": ["absent.toml"],
    "pilot": ["absent.toml"],
    "student": ["absent.toml"],
    "traces": ["cost", "absent.sqlite"],
    "doctor": ["absent"],
}
"""Words that name a file which is not there, for every command that reads one."""


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"list", "completion"}))
def test_a_file_that_is_not_there_is_one_sentence_and_status_2(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("serving.__main__.end_at_signals", lambda: None)
    monkeypatch.setattr("hybrid.commands.serve.end_at_signals", lambda: None)
    assert main([name, *UNKNOWN[name]]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "absent" in error


def offers_json(parser: ArgumentParser) -> bool:
    return any("--json" in action.option_strings for action in parser._actions)


@pytest.mark.slow
def test_what_is_printed_for_programs_is_one_json_object_a_command(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "work"
    shutil.copytree(finished.parents[2], folder)
    monkeypatch.chdir(folder)
    shutil.copy(CHECKOUT / "tests" / "golden" / "traces.sqlite", folder / "store.sqlite")
    (folder / "rows.csv").write_text("text\nwarm soup\n")
    run, recipe = "runs/dishes/default", "dishes/recipe.toml"
    row_id = json.loads((folder / run / "split/rows.jsonl").read_text().splitlines()[0])["id"]
    words = {
        "hybrid run": [recipe],
        "hybrid estimate": [recipe],
        "hybrid new": ["mine", "--data", "dishes/data.csv", "--text", "text", "--label", "label", "--write-only"],
        "hybrid bundle": [run, "other", "--precision", "fp32"],
        "hybrid info": [f"{run}/bundle"],
        "hybrid score": ["rows.csv", "scored.csv", "--bundle", f"{run}/bundle"],
        "hybrid why": [run, row_id],
        "hybrid review export": [run, "looks.csv", "--rows", "3"],
        "hybrid review read": [run, "looks.csv"],
        "hybrid traces export": ["store.sqlite", "answers.jsonl"],
        "hybrid traces import": ["other.sqlite", "answers.jsonl"],
        "hybrid traces cost": ["store.sqlite"],
        "hybrid doctor": [f"{run}/bundle"],
        "hybrid list": [],
    }
    asked_elsewhere = {
        "hybrid policy",
        "hybrid pilot",
        "hybrid advise",
        "hybrid student",
        "hybrid traces judge",
        "hybrid review escalations",
    }
    assert {parser.prog for parser in parsers() if offers_json(parser)} == set(words) | asked_elsewhere
    for prog, rest in words.items():
        assert main([*prog.split()[1:], *rest, "--json"]) == 0, prog
        printed = capsys.readouterr().out
        assert printed.count("\n") == 1, prog
        assert json.loads(printed) is not None
    listed = (main(["list", "--json"]), json.loads(capsys.readouterr().out))[1]
    assert [Path(each["run"]).as_posix() for each in listed["runs"]] == [run]
    assert f"{run}/bundle" in [Path(each["bundle"]).as_posix() for each in listed["bundles"]]
    recipe_profiles = {each["name"]: each["profiles"] for each in listed["recipes"]}
    assert {"embedded", "deberta"} <= set(recipe_profiles["sentiment"])


def test_options_may_stand_among_the_texts() -> None:
    command = command_named("predict")
    assert command is not None
    options = read_words(parser_of(command), ["bundle", "--explain", "first", "--threshold", "0.5", "second"])
    assert (options.bundle, options.texts, options.explain, options.threshold) == (
        "bundle",
        ["first", "second"],
        True,
        0.5,
    )
    assert read_words(parser_of(command), ["bundle", "--", "--explain"]).texts == ["--explain"]


def test_a_word_that_is_no_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predikt", "demo"]) == 2
    assert "no command 'predikt'; did you mean 'predict'?" in capsys.readouterr().err
    assert main([]) == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_knows_commands_and_options(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in (*NAMES, "threshold", "escalations"))


def test_bash_completes_commands_steps_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    assert main(["completion", "bash"]) == 0
    (tmp_path / "complete.bash").write_text(capsys.readouterr().out)

    def completed(*words: str) -> set[str]:
        quoted = " ".join(shlex.quote(word) for word in words)
        code = f"""
source complete.bash
COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}
function_name=$(complete -p hybrid | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
$function_name
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
        done = subprocess.run([bash, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert completed("hybrid", "pr") == {"predict"}
    assert completed("hybrid", "review", "esc") == {"escalations"}
    assert "--threshold" in completed("hybrid", "predict", "--th")


def test_the_former_command_line_takes_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe_main(["list"]) == 0
    assert "sentiment" in capsys.readouterr().out.split()
    assert recipe_main(["--help"]) == 0
    assert recipe_main(["run", "--help"]) == 0
    assert "--no-ablate" in capsys.readouterr().out
    assert recipe_main(["sentiment", "--seeds", "0"]) == 2
    assert "argument --seeds: expected 1 or more, got 0" in capsys.readouterr().err
    assert recipe_main(["sentimental"]) == 2
    assert "sentimental: no such recipe" in capsys.readouterr().err


@pytest.mark.slow
def test_running_a_recipe_without_its_packages_names_the_extra() -> None:
    code = "import sys; sys.modules['sklearn'] = None; from hybrid.recipe import main; sys.exit(main(['sentiment']))"
    done = child(code)
    assert done.returncode == 2
    assert done.stderr == (
        "error: run: sklearn is not installed; this command needs: pip install 'hybrid-cascade[train]'\n"
    )


@pytest.mark.slow
def test_both_names_of_the_command_line_run_the_same_run(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(finished.parents[2], folder)
    assert main(["run", str(folder / "dishes"), "--runs", str(folder / "runs")]) == 0
    again = hybrid_recipe("run", str(folder / "dishes"), "--runs", str(folder / "runs"), cwd=folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("unchanged, skipped") >= 8
