"""onnxruntime: on the processor at whatever precision the graph has, and on NVIDIA's GPUs in fp32."""

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from hybrid.errors import BundleError, ConfigError
from hybrid.runtime.engines.open_graph import EVIDENCE, Lanes, Outputs, in_utf8

ON_CPU = "CPUExecutionProvider"
ON_CUDA = "CUDAExecutionProvider"
EXACT = {"use_tf32": "0"}
"""Products in fp32: TF32 has ten bits, and golden texts of an fp32 graph would not hold with it."""
WARNINGS_OFF = 3


class OnnxruntimeGraph:
    """A session of onnxruntime. It may be called from several threads at once."""

    in_bf16 = False

    def __init__(self, path: Path, lanes: Lanes, *, providers: Sequence[Any] = (ON_CPU,)) -> None:
        """Open the graph.

        Raises:
            BundleError: the file cannot be loaded.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = lanes.threads
        options.inter_op_num_threads = 1
        # Spinning starves the service beside it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if lanes.spin_wait else "0")
        options.log_severity_level = WARNINGS_OFF
        try:
            self._session = onnxruntime.InferenceSession(in_utf8(path), options, providers=list(providers))
        except Exception as error:  # onnxruntime's own types are private
            raise BundleError(f"{path}: cannot be loaded: {error}; rerun the recipe") from error
        self.inputs: tuple[str, ...] = tuple(graph_input.name for graph_input in self._session.get_inputs())
        outputs = self._session.get_outputs()
        self.n_outputs: int | str | None = outputs[0].shape[-1]
        self.has_evidence = any(output.name == EVIDENCE for output in outputs)
        self._names = [outputs[0].name, *([EVIDENCE] if self.has_evidence else [])]
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())

    def run(self, feed: Mapping[str, np.ndarray]) -> Outputs:
        """Run the graph on a feed that names every input."""
        logits, *tokens = self._session.run(self._names, feed)
        return Outputs(np.asarray(logits), np.asarray(tokens[0]) if tokens else None)

    def abandon(self) -> None:
        """Keep the session in memory for ever."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session._sess))


def open_on_cuda(path: Path, lanes: Lanes) -> OnnxruntimeGraph:
    """Open a graph on an NVIDIA GPU.

    Raises:
        ConfigError: the installed onnxruntime has no CUDA provider, or that finds no GPU or libraries.
        BundleError: the file cannot be loaded.
    """
    if ON_CUDA not in onnxruntime.get_available_providers():
        raise ConfigError(
            f"engine cuda: the installed onnxruntime {onnxruntime.__version__} has no CUDA provider; on a machine with an "
            "NVIDIA GPU, pip uninstall onnxruntime and pip install onnxruntime-gpu, or take the engine onnxruntime"
        )
    graph = OnnxruntimeGraph(path, lanes, providers=((ON_CUDA, EXACT), ON_CPU))
    if graph.providers[0] != ON_CUDA:  # onnxruntime takes the processor instead, in silence
        raise ConfigError(
            "engine cuda: onnxruntime's CUDA provider cannot start; it needs an NVIDIA GPU with its driver, and CUDA and "
            "cuDNN in the versions that onnxruntime-gpu asks for: check nvidia-smi, or take the engine onnxruntime"
        )
    return graph
