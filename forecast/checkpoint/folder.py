"""Checkpoints: a folder with ``weights.safetensors`` and ``meta.json``, written whole and checked when read.

Neither file is trusted: ``description`` defines what the metadata may contain, ``meta`` its checksum.
"""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import Tensor, nn

from ... import __version__
from ...datasets.store import atomic
from ...datasets.validation import first_problem
from ...fno.errors import OtherRunError, UntrustedCodeError, WeightsError
from ...fno.models.base import load_weights
from ...fno.training.changes import explain_changes
from ...fno.training.state import load_state, save_tensors
from ...fno.weights.regular_file import check_memory
from ...fno.weights.tensor_file import Entry, read_file, read_header
from ..config.sections import MODEL_TAGS
from .description import Description
from .meta import is_sealed, read_meta, sha256, upgraded, warn_of_old_format, write_meta

D = TypeVar("D", bound=Description)
WEIGHTS = "weights.safetensors"
_TAGS = (*MODEL_TAGS, "int", "constrained-float", "float")  # of unions in descriptions
_PACKAGES = ("torch", "numpy", "xarray", "zarr")


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint on disk whose metadata was read, but whose weights were not.

    Attributes:
        path: folder of the checkpoint.
        stored_meta: content of ``meta.json``.
    """

    path: Path
    stored_meta: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> "StoredCheckpoint":
        """Read the metadata of a checkpoint.

        Raises:
            FileNotFoundError: no checkpoint there.
            ValueError: the metadata is damaged or of an unsupported format version.
        """
        return cls(Path(path), read_meta(path))

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Metadata in the form of the present format version."""
        return upgraded(self.stored_meta)

    @property
    def task(self) -> str:
        """Name of the task that it was trained for."""
        return str(self.meta["task"])

    @property
    def identity(self) -> str:
        """Checksum that differs for other weights or other metadata."""
        return str(self.stored_meta.get("checksum") or self.stored_meta["sha256"])

    @cached_property
    def is_sealed(self) -> bool:
        """Whether the metadata is as it was written."""
        return is_sealed(self.stored_meta)

    def verify(self, *, weights: bool = False) -> None:
        """Compare the checksum of the metadata with its content, and that of the weights on request.

        Args:
            weights: compare the checksum of the weights too, which reads them all.

        Raises:
            ValueError: one of them differs or is missing.
        """
        if weights and "checksum" not in self.stored_meta:
            warn_of_old_format(str(self.path))
        if not self.is_sealed:
            raise ValueError(
                f"{self.path}/meta.json was changed after it was written: its checksum does not match; "
                "restore it or train again"
            )
        if weights and sha256(self.path / WEIGHTS) != self.meta["sha256"]:
            raise ValueError(
                f"{self.path}/{WEIGHTS} is damaged or was changed after it was written: "
                "its checksum is not the one in meta.json; restore it or train again"
            )

    def require(self, *tasks: str) -> None:
        """Raise ``ValueError`` unless it was trained for one of the tasks."""
        with self.noting_changes():
            if self.task not in tasks:
                raise ValueError(
                    f"{self.path} is a checkpoint of the task {self.task}, not of {' or '.join(tasks)}"
                )

    @contextmanager
    def noting_changes(self) -> Iterator[None]:
        """Extend errors raised inside by a remark if the metadata was changed after it was written."""
        try:
            yield
        except ValueError as error:
            if self.is_sealed:
                raise
            kind = WeightsError if isinstance(error, WeightsError) else ValueError
            raise kind(f"{error}; {self.path}/meta.json was changed after it was written") from error

    def describe(self, kind: type[D]) -> D:
        """Return the metadata validated as a description.

        Raises:
            ValueError: a key is missing, unknown, of the wrong type or out of range.
        """
        with self.noting_changes():
            try:
                return kind.model_validate_json(json.dumps(self.meta), strict=True)
            except (ValidationError, RecursionError) as error:
                text = _first_error(error) if isinstance(error, ValidationError) else "nested too deeply"
                if isinstance(error, ValidationError) and _is_untrusted(error):
                    raise UntrustedCodeError(f"{self.path}/meta.json: {text}") from error
                raise ValueError(f"{self.path}/meta.json: {text}; restore it or train again") from error

    def entries(self) -> dict[str, Entry]:
        """Return the tensors that the header of the weights lists, without reading any.

        Raises:
            ValueError: the weights are missing or their header is damaged.
        """
        try:
            return read_header(self.path / WEIGHTS)
        except FileNotFoundError as error:
            raise ValueError(
                f"{self.path} has no {WEIGHTS}, whose checksum is in meta.json; restore it or train again"
            ) from error
        except WeightsError as error:
            raise ValueError(f"{error}; its checksum is not the one in meta.json") from error

    def restore(
        self, network: nn.Module, entries: Mapping[str, Entry], prefix: str = ""
    ) -> dict[str, Tensor]:
        """Load the weights into a network whose parameters were compared with the header.

        Args:
            network: network to fill.
            entries: the header of the weights.
            prefix: start of the names of the network's tensors.

        Returns:
            The other tensors, whose names start otherwise.

        Raises:
            ValueError: weights or metadata were changed after they were written, or are not finite.
        """
        check_memory(self.path / WEIGHTS, sum(entry.nbytes for entry in entries.values()))
        self.verify(weights=True)
        tensors = read_file(self.path / WEIGHTS, entries)
        own = {name: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
        load_weights(network, {name.removeprefix(prefix): t for name, t in own.items()}, str(self.path))
        return tensors


def write_checkpoint(
    path: Path, task: str, tensors: Mapping[str, Tensor], *, meta: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Write a checkpoint under a temporary name and rename it.

    Args:
        path: folder to write.
        task: name of the task.
        tensors: weights, and fields that belong to them.
        meta: metadata of the task, as JSON values.
        overwrite: replace an existing checkpoint.

    Raises:
        FileExistsError: ``path`` exists and may not be replaced.
    """
    versions = {"fourcaster": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in _PACKAGES}
    origin = {"versions": versions, "written": datetime.now(UTC).isoformat(timespec="seconds")}
    with atomic.replacing(path, overwrite=overwrite, kind="checkpoint") as temporary:
        temporary.mkdir()
        save_tensors({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, temporary / WEIGHTS)
        write_meta(temporary, {"task": task, **meta, **origin})


def fingerprint(content: Any) -> str:
    """Return a hash of everything on which the result of a training run depends.

    Args:
        content: JSON values; others are represented by their text.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def finished_run(
    output: Path,
    description: type[D],
    *,
    task: str,
    digest: str,
    content: Mapping[str, Any] | None = None,
) -> D | None:
    """Return the description of the finished run in ``output``, or None where there is none.

    Args:
        output: folder of the run.
        description: class of the metadata of the task's checkpoints.
        task: name of the task.
        digest: expected fingerprint.
        content: what the fingerprint was computed from, as nested JSON values, to list what changed.

    Raises:
        ValueError: it is a run of another task.
        OtherRunError: it has another fingerprint.
    """
    if not (output / "checkpoint" / "meta.json").exists():
        return None
    checkpoint = StoredCheckpoint.open(output / "checkpoint")
    checkpoint.verify()
    if checkpoint.task != task:
        raise ValueError(
            f"{output} contains a finished run of the task {checkpoint.task}, not {task}; choose another "
            "output, or remove the run"
        )
    provenance = checkpoint.meta.get("provenance")
    stored = provenance.get("fingerprint") if isinstance(provenance, dict) else None
    if stored != digest:
        changes = explain_changes(_recorded_content(output, stored), content or {})
        raise OtherRunError(
            f"{output} contains a finished run with other settings or data ({changes}); choose another "
            "output, or remove the run"
        )
    return checkpoint.describe(description)


def _recorded_content(output: Path, digest: Any) -> Mapping[str, Any] | None:
    """Return what the state of a run says its fingerprint was computed from; None if it is unknown."""
    path = output / "state" / "training.safetensors"
    if not path.is_file():
        return None
    try:
        _, meta = load_state(path)
    except ValueError:
        return None
    return meta.get("description") if meta.get("fingerprint") == digest else None


def _is_untrusted(error: ValidationError) -> bool:
    """Return whether the metadata name code that may not be imported."""
    return isinstance(first_problem(error, tags=_TAGS).cause, UntrustedCodeError)


def _first_error(error: ValidationError) -> str:
    """Return the first error as text: the key, what is expected, and the value."""
    problem = first_problem(error, tags=_TAGS)
    unshown = ("missing", "value_error", "extra_forbidden")
    received = "" if problem.kind in unshown else f", got {_shown(problem.value)}"
    return f"{'.'.join(problem.location) or 'the description'}: {problem.message}{received}"


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{'keys' if isinstance(value, dict) else 'a list'} of {len(value)} entries"
    return repr(value)[:80]
