"""OpenVINO on the processor: an fp32 graph in bf16, where the processor has instructions for that."""

import ctypes
import os
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hybrid.errors import BundleError, ConfigError
from hybrid.runtime.engines.open_graph import EVIDENCE, Lanes, Outputs, in_utf8

DEVICE = "CPU"
_ALONE = threading.Lock()
"""Held at the first use of a graph."""


class OpenvinoGraph:
    """A compiled model of OpenVINO. It may be called from several threads at once: each has a request of its own."""

    def __init__(self, path: Path, lanes: Lanes) -> None:
        """Compile the graph.

        Raises:
            ConfigError: this process was forked from one that had loaded OpenVINO.
            BundleError: the file cannot be loaded.
        """
        core = _core()
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16(core) else "f32",
            "INFERENCE_NUM_THREADS": lanes.threads * lanes.calls,
            "NUM_STREAMS": lanes.calls,
            # Pinned threads would share the first processors with those of every other process.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            self._model = core.compile_model(core.read_model(in_utf8(path)), DEVICE, settings)
        except Exception as error:  # its own types are private
            raise BundleError(f"{path}: cannot be loaded by OpenVINO: {error}; rerun the recipe") from error
        self._requests = threading.local()
        self.inputs: tuple[str, ...] = tuple(graph_input.any_name for graph_input in self._model.inputs)
        width = self._model.outputs[0].partial_shape[-1]
        self.n_outputs: int | str | None = None if width.is_dynamic else width.get_length()
        self.has_evidence = any(EVIDENCE in output.get_names() for output in self._model.outputs)
        self.in_bf16 = self._model.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "bf16"
        with _ALONE:
            self._use_once()

    def run(self, feed: Mapping[str, np.ndarray]) -> Outputs:
        """Run the graph on a feed that names every input."""
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._model.create_infer_request()
        # Inputs are read where they lie; the request writes its next output to the same place, so that it is copied.
        outputs = request.infer(dict(feed), share_inputs=True, share_outputs=True)
        return Outputs(np.array(outputs[0]), np.array(outputs[EVIDENCE]) if self.has_evidence else None)

    def _use_once(self) -> None:
        """Run two shapes before anybody else may: what the library's Python side sets up at its first use, holding
        Python's lock and one of its own, two threads would wait for each other in."""
        for shape in ((1, 1), (2, 2)):
            self.run(dict.fromkeys(self.inputs, np.ones(shape, dtype=np.int64)))

    def abandon(self) -> None:
        """Keep the model in memory for ever."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))


def has_bf16(core: Any) -> bool:
    """Whether the processor multiplies bf16 by instructions of its own, as OpenVINO sees it."""
    return "BF16" in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")


def _core() -> Any:
    """The library, once a process.

    Raises:
        ConfigError: this process was forked from one that had loaded it. Its threads are not here, and the first call
            would wait for them for ever (https://github.com/openvinotoolkit/openvino/issues/416).
    """
    loaded = _loaded()
    if loaded[0] != os.getpid():
        raise ConfigError(
            "engine openvino: this process was forked from one that had loaded OpenVINO, which cannot run in both; start "
            "processes with spawn, load the bundle after the fork alone, or take the engine onnxruntime"
        )
    return loaded[1]


@cache
def _loaded() -> tuple[int, Any]:
    """The process that loaded the library, and its core."""
    import openvino

    return os.getpid(), openvino.Core()
