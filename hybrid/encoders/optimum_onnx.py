"""A checkpoint as an ONNX graph of standard operators, by Hugging Face's optimum.

optimum-onnx 0.1 needs transformers below 4.58 and training needs 5, so this runs in a separate environment with the
extra `optimum`.
"""

import warnings
from pathlib import Path
from typing import Any

from hybrid.encoders.evidence import head_of
from hybrid.errors import ConfigError


def export_onnx(model: Any, inputs: tuple[str, ...], path: Path, *, opset: int) -> None:
    """Write the fp32 graph of a sequence classifier; batch and length stay dynamic.

    The graph has the inputs named, int64 [batch, sequence], as far as optimum knows them for the family, and one
    output `logits` [batch, k].

    Raises:
        ConfigError: optimum is not installed here, or has no text classifier of this family, or none with an evidence head.
    """
    if head_of(model) is not None:
        raise ConfigError(
            "export.backend = 'optimum': optimum's graphs have no output for evidence words; set export.backend = 'auto', or "
            "leave train.evidence out"
        )
    try:
        from optimum.exporters.onnx import export
    except ImportError as error:
        raise ConfigError(
            f"export.backend = 'optimum': optimum cannot be imported here ({error}); it needs transformers below "
            "4.58 and so a separate environment: create one, run pip install 'hybrid-cascade[optimum]' in it and start the "
            "recipe again there (finished stages are kept), or set export.backend = 'torch'"
        ) from error
    model = model.to("cpu").float().eval()
    config = _onnx_config(model, inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's advice is for transformers' developers
        export(model, config, path, opset=opset)


def _onnx_config(model: Any, inputs: tuple[str, ...]) -> Any:
    """Build optimum's configuration of the family, without inputs that the tokenizer does not produce."""
    from optimum.exporters.tasks import TasksManager

    family = model.config.model_type
    try:
        family_config = TasksManager.get_exporter_config_constructor(
            "onnx", model, task="text-classification", library_name="transformers"
        )(model.config)
    except (KeyError, ValueError) as error:  # KeyError: unknown family; ValueError: unsupported task
        raise ConfigError(
            f"export.backend = 'optimum': no text classifier of the family {family!r} ({error}); "
            "set export.backend = 'torch' or choose another encoder"
        ) from error

    class Narrowed(type(family_config)):  # type: ignore[misc]
        """optimum's own configuration, which expects token types for every BERT, with fewer inputs."""

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            """List the dynamic axes by input."""
            return {name: axes for name, axes in super().inputs.items() if name in inputs}

    return Narrowed(model.config, task="text-classification")
