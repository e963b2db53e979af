"""Exchange with other software: import of published weights, export of networks for other runtimes."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import __version__
from ..datasets.store import atomic
from ..datasets.store.outputs import marker
from ..fno.models import REGISTRY
from ..fno.pretrained import build, construct, read_weights
from ..fno.references import reference_of
from .checkpoint.description import NetworkArguments
from .checkpoint.folder import StoredCheckpoint, write_checkpoint
from .checkpoint.meta import sha256
from .config.yaml_text import read_yaml
from .tasks.registry import get_task
from .text import one_line

ExportFormat = Literal["torch-export", "onnx"]
_KINDS = {"torch-export": "torch-export program", "onnx": "onnx model"}
MAX_NUMBER = 10**7  # in an argument of an import
MAX_ENTRIES = 16  # of a list in an argument
MAX_WORD_LENGTH = 100  # characters
MAX_POINTS = 2**28  # of the grid that an export is tested on


def import_network(
    source: Path,
    format: str,
    output: Path,
    *,
    arguments: Mapping[str, Any] | None = None,
    config: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write a checkpoint of published weights; see ``fno.import_weights``.

    Args:
        source: file of weights.
        format: name of the format, which is that of the package that wrote the file.
        output: checkpoint to write.
        arguments: arguments of the network that the file does not contain.
        config: YAML with such arguments; ``arguments`` take precedence.
        overwrite: replace an existing checkpoint.

    Raises:
        FileExistsError: ``output`` exists and may not be replaced.
        ValueError: the file is not of this format, or the arguments do not match it.
    """
    with atomic.reserved(output, "checkpoint", overwrite=overwrite, inputs=[source, config]) as path:
        _import_network(source, format, path, arguments=arguments, config=config, overwrite=overwrite)


def _import_network(
    source: Path,
    format: str,
    output: Path,
    *,
    arguments: Mapping[str, Any] | None,
    config: Path | None,
    overwrite: bool,
) -> None:
    configured: Any = {}
    if config is not None:
        configured = read_yaml(config)
        if not isinstance(configured, dict):
            raise ValueError(f"{config} is not a mapping of keys; write e.g. inp_shape: [720, 1440]")
    values = configured | dict(arguments or {})
    for name, value in values.items():
        _check_argument(name, value)
    try:
        model = read_weights(source, format, **values)
        build(model.kind, model.arguments, model.tensors, source=str(source))
    except (TypeError, IndexError) as error:  # such as one number instead of two
        raise ValueError(
            f"{source}: these arguments do not fit the weights: {one_line(repr(values), 200)} ({error})"
        ) from error
    source_meta = {"file": source.name, "format": format, "sha256": sha256(source)}
    meta = {"model": {"model": model.kind, "arguments": model.arguments}, "source": source_meta}
    write_checkpoint(output, "network", model.tensors, meta=meta, overwrite=overwrite)


def _check_argument(name: object, value: Any) -> None:
    """Raise ``ValueError`` unless a value is a number, true or false, a word, or a short list of such."""
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        number = isinstance(entry, int | float) and abs(entry) <= MAX_NUMBER
        if (
            not isinstance(name, str)
            or len(entries) > MAX_ENTRIES
            or not (number or (isinstance(entry, str) and 0 < len(entry) <= MAX_WORD_LENGTH))
        ):
            raise ValueError(
                f"{one_line(str(name), 80)}: {one_line(repr(value), 80)} is not understood; "
                "write a number, or several separated by commas"
            )


def load_network(path: str | Path) -> nn.Module:
    """Return the network of a checkpoint, imported or trained, in evaluation mode.

    The inputs and outputs of a trained one are normalised, see ``fno.models.stepper.Stepper``.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: of another task, or damaged.
    """
    stored = StoredCheckpoint.open(path)
    with stored.noting_changes():
        task = get_task(stored.task)
    return task.load_network(stored).eval()


def save_network(
    network: nn.Module, output: str | Path, arguments: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write a checkpoint of any network, from which ``load_network`` returns it and training can start.

    It names the class by its registered name or as ``module:Class``, which must belong to an installed
    package or a trusted folder, now and when it is loaded; see ``fno.references``.

    Args:
        network: network.
        output: checkpoint to write.
        arguments: arguments of its class, numbers and texts or short lists of them.
        overwrite: replace an existing checkpoint.

    Raises:
        FileExistsError: ``output`` exists and may not be replaced.
        ValueError: the class cannot be imported, or another network results from the arguments.
    """
    kind = next((name for name, known in REGISTRY.items() if known is type(network)), None)
    kind = kind or reference_of(type(network))
    tensors = network.state_dict()
    construct(kind, arguments, tensors, source=type(network).__name__)
    meta = {"model": {"model": kind, "arguments": dict(arguments)}}
    NetworkArguments.model_validate(meta["model"])
    with atomic.reserved(Path(output), "checkpoint", overwrite=overwrite, inputs=[]) as path:
        write_checkpoint(path, "network", tensors, meta=meta, overwrite=overwrite)


@dataclass(frozen=True)
class ExportResult:
    """Result of an export.

    Attributes:
        output: file of the exported network.
        format: ``torch-export`` or ``onnx``.
        input_shape: shape of the input that the export was tested on, (batch, channels, H, W).
        output_shape: shape of its output.
        dynamic_dimensions: dimensions of any size: ``batch``, and ``grid`` if H and W are.
        difference: maximum difference of the outputs of both networks, relative to the maximum of the output.
    """

    output: Path
    format: ExportFormat
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dynamic_dimensions: list[str]
    difference: float

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "output": str(self.output),
            "format": self.format,
            "input": list(self.input_shape),
            "result": list(self.output_shape),
            "free": self.dynamic_dimensions,
            "difference": self.difference,
        }


def export(
    checkpoint: Path,
    format: ExportFormat,
    output: Path,
    *,
    size: Sequence[int] | None = None,
    overwrite: bool = False,
) -> ExportResult:
    """Export the network of a checkpoint for other runtimes, and compare its output with the original.

    ``torch-export`` supports any batch size, and any grid for an FNO or TFNO without domain padding, series
    of cosines and stencil, whose transforms are then FFTs. ``onnx`` (FNO and TFNO only) supports any batch
    size on one grid, with transforms as matrix products.

    Args:
        checkpoint: folder of the checkpoint.
        format: ``torch-export`` or ``onnx``.
        output: file to write.
        size: grid points (H, W); by default those of training, or those of an AFNO.
        overwrite: replace an existing file.

    Returns:
        Shapes of input and output, their dynamic dimensions, and the difference from the original.

    Raises:
        FileNotFoundError: no checkpoint there.
        FileExistsError: ``output`` exists and may not be replaced.
        ValueError: the grid is unknown, the format is unknown or not supported for this model, or the outputs
            differ by more than 1e-4.
    """
    if format not in ("torch-export", "onnx"):
        raise ValueError(f"unknown format {format!r}; use torch-export or onnx")
    with atomic.reserved(output, _KINDS[format], overwrite=overwrite, inputs=[checkpoint]) as path:
        return _export(checkpoint, format, path, size=size, overwrite=overwrite)


def _export(
    checkpoint: Path, format: ExportFormat, output: Path, *, size: Sequence[int] | None, overwrite: bool
) -> ExportResult:
    network = load_network(checkpoint)
    models = [m for m in network.modules() if isinstance(m, tuple(REGISTRY.values()))]
    if not models:
        kinds = ", ".join(dict.fromkeys(type(m).__name__ for m in network.modules()))
        raise ValueError(f"{checkpoint} contains none of the models that can be exported, but {kinds[:80]}")
    first: Any = models[0]
    fourier = all(isinstance(m, REGISTRY["fno"]) for m in models)
    free_grid = fourier and format == "torch-export" and first.exports_any_grid
    if format == "onnx" and not fourier:
        raise ValueError(
            f"onnx is supported for fno and tfno, not for {type(first).__name__}; use torch-export"
        )
    trained_size = next(iter(first.trained_sizes), getattr(first, "inp_shape", None))
    size = tuple(size or trained_size or ())
    if len(size) != first.dimensions:
        raise ValueError(
            f"{checkpoint} does not define a grid; pass its {first.dimensions} sizes, e.g. "
            f"{','.join(['64'] * first.dimensions)}"
        )
    if min(size) < 1 or prod(size) > MAX_POINTS:
        raise ValueError(
            f"a grid of {' x '.join(map(str, size))} points cannot be exported; use 1 to {MAX_POINTS} points "
            "in total"
        )
    module: Any
    for module in network.modules():
        if hasattr(module, "trained_sizes"):
            module.trained_sizes = set()
        if hasattr(module, "method"):
            module.method = "fft" if format == "torch-export" else "dft"
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, first.in_channels, *size, generator=generator)
    with torch.no_grad():
        expected = network(x)  # also fills caches, which must not happen while the graph is traced
    with atomic.replacing(output, overwrite=overwrite, kind=_KINDS[format]) as temporary:
        content, exported = (
            _torch_export(network, x, first if free_grid else None)
            if format == "torch-export"
            else _onnx(network, x)
        )
        difference = float((exported - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
        if not difference < 1e-4:
            raise ValueError(
                f"the exported network differs from the original by {difference:.1e} and was not written"
            )
        temporary.write_bytes(content)
    dynamic = ["batch", *(["grid"] if free_grid else [])]
    return ExportResult(
        output=output,
        format=format,
        input_shape=tuple(x.shape),
        output_shape=tuple(expected.shape),
        dynamic_dimensions=dynamic,
        difference=difference,
    )


def _torch_export(network: nn.Module, x: Tensor, fourier: Any) -> tuple[bytes, Tensor]:
    """Return the exported program and its output for ``x``.

    Args:
        network: network to export.
        x: input, shape (batch, channels, H, W).
        fourier: the FNO whose grid may have any size, or None for a fixed grid.
    """
    from torch.export import Dim

    dynamic: dict[int, Any] = {0: Dim("batch", min=1)}
    if fourier is not None:
        dynamic |= {d + 2: Dim(f"n{d}", min=n + 2) for d, n in enumerate(fourier.blocks[0].conv.n_modes)}
    buffer = io.BytesIO()
    with torch.no_grad():
        program = torch.export.export(network, (x,), dynamic_shapes=(dynamic,))
        torch.export.save(program, buffer, extra_files={marker(_KINDS["torch-export"]): __version__})
        output = torch.export.load(io.BytesIO(buffer.getvalue())).module()(x)
    return buffer.getvalue(), output


def _onnx(network: nn.Module, x: Tensor) -> tuple[bytes, Tensor]:
    """Return the ONNX model and the output of ONNX Runtime for ``x``."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  used by the exporter
    except ImportError as error:
        raise ValueError(
            f"onnx export needs the packages of the extra 'onnx': pip install 'fourcaster[onnx]' ({error})"
        ) from error
    from torch.export import Dim

    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"]}
    program = torch.onnx.export(
        network, (x,), dynamo=True, dynamic_shapes=({0: Dim("batch", min=1)},), verbose=False, **names
    )
    if program is None:
        raise ValueError("the onnx exporter returned no program")
    model = program.model_proto
    model.doc_string = f"{marker(_KINDS['onnx'])} {__version__}"
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
