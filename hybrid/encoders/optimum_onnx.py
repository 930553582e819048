"""A checkpoint as an ONNX graph of standard operators, by Hugging Face's optimum.

optimum-onnx 0.1 wants transformers below 4.58 and training wants 5, so this runs in an environment of its own: the one
that holds the extra `optimum`.
"""

import warnings
from pathlib import Path
from typing import Any

from hybrid.errors import ConfigError


def export_onnx(model: Any, inputs: tuple[str, ...], path: Path, *, opset: int) -> None:
    """Write the fp32 graph of a sequence classifier; batch and length stay dynamic.

    The graph has the inputs named, int64 [batch, sequence], as far as optimum knows them for the family, and one
    output `logits` [batch, k].

    Raises:
        ConfigError: optimum is not installed here, or has no text classifier of this family.
    """
    try:
        from optimum.exporters.onnx import export
    except ImportError as error:
        raise ConfigError(
            f"export.backend = 'optimum': this environment has no optimum that works ({error}); it wants transformers "
            "below 4.58 and so an environment of its own: make one, run there: pip install 'hybrid-cascade[optimum]', "
            "and start the recipe again there (finished stages are kept), or set export.backend = 'torch'"
        ) from error
    model = model.to("cpu").float().eval()
    config = _onnx_config(model, inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's advice is for transformers' developers
        export(model, config, path, opset=opset)


def _onnx_config(model: Any, inputs: tuple[str, ...]) -> Any:
    """Return what optimum knows of the family, without the inputs that the tokenizer does not give."""
    from optimum.exporters.tasks import TasksManager

    family = model.config.model_type
    try:
        known = TasksManager.get_exporter_config_constructor(
            "onnx", model, task="text-classification", library_name="transformers"
        )(model.config)
    except (KeyError, ValueError) as error:  # one for an unknown family, the other for a task that it lacks
        raise ConfigError(
            f"export.backend = 'optimum': no text classifier of the family {family!r} ({error}); "
            "set export.backend = 'torch' or choose another encoder"
        ) from error

    class Narrowed(type(known)):  # type: ignore[misc]
        """optimum's own, which takes token types for every BERT."""

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            """Return the dynamic axes by input."""
            return {name: axes for name, axes in super().inputs.items() if name in inputs}

    return Narrowed(model.config, task="text-classification")
