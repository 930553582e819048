"""The engines that can run a bundle's graph: the one table that loading, the service and the command lines read."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import msgspec

from hybrid.errors import ConfigError
from hybrid.runtime.engines.open_graph import Lanes, OpenGraph

DEFAULT_ENGINE = "onnxruntime"


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """A library that runs graphs."""

    open: Callable[[Path, Lanes], OpenGraph]
    """Opens a graph.

    Raises:
        ConfigError: the library is not installed, or lacks what this engine needs of it.
        BundleError: the file cannot be loaded.
    """
    package: str
    """The package that must be installed."""
    takes_fp32_alone: bool = True
    """Whether it runs fp32 graphs alone: it computes them in the precision that suits it."""
    one_session: bool = False
    """Whether several calls at once share one session; otherwise a small graph is opened a second time for them."""


def _open_on_cpu(path: Path, lanes: Lanes) -> OpenGraph:
    from hybrid.runtime.engines.onnxruntime_engine import OnnxruntimeGraph

    return OnnxruntimeGraph(path, lanes)


def _open_on_cuda(path: Path, lanes: Lanes) -> OpenGraph:
    from hybrid.runtime.engines.onnxruntime_engine import open_on_cuda

    return open_on_cuda(path, lanes)


def _open_in_openvino(path: Path, lanes: Lanes) -> OpenGraph:
    from hybrid.runtime.engines.openvino_engine import OpenvinoGraph

    return OpenvinoGraph(path, lanes)


ENGINES: dict[str, Engine] = {
    DEFAULT_ENGINE: Engine(open=_open_on_cpu, package="onnxruntime", takes_fp32_alone=False),
    "openvino": Engine(open=_open_in_openvino, package="openvino"),
    "cuda": Engine(open=_open_on_cuda, package="onnxruntime", one_session=True),
}
"""By name. onnxruntime: on the processor, at the precision of the graph. openvino: on the processor, in bf16 where that
has instructions for it. cuda: onnxruntime's CUDA provider, in fp32."""


def engine_of(name: str) -> Engine:
    """Look up an engine.

    Raises:
        ConfigError: there is none of that name, or its package is not installed.
    """
    if name not in ENGINES:
        raise ConfigError(f"engine {name!r:.80}: expected one of {', '.join(ENGINES)}")
    engine = ENGINES[name]
    if find_spec(engine.package) is None:
        raise ConfigError(
            f"engine {name}: {engine.package} is not installed; pip install 'hybrid-cascade[{name}]', or take the engine "
            f"{DEFAULT_ENGINE}"
        )
    return engine
