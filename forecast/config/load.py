"""Configuration of a training run: YAML, validated, with overrides such as ``train.epochs=20``."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from ...datasets.schema import nearest
from ...fno.training.settings import TrainSettings
from ..text import one_line
from .physics_config import EquationConfig, OperatorConfig, PinnConfig
from .sections import FourierKeys, Layers, Modes, Positive, Ratio, Strict, Width
from .yaml_text import parse_yaml, read_yaml


class DataConfig(Strict):
    """What to train on.

    Attributes:
        store: store made by ``forecast ingest``.
        variables: variables to forecast; all of the store's by default.
        train_period: ``START:STOP``; the store's own by default. What follows it is the test.
        validation_fraction: share of the training period, at its end, that weights are chosen on.
        samples_per_epoch: most samples of an epoch; 0 for all.
        cache_bytes: a store no larger than this is kept in memory.
        buffer_bytes: a larger one is shuffled in pools that together take about this much memory.
        route: how values are read: through ``dask``, or ``direct`` by zarr with the package zarrs, which is
            several times faster.
        gap_steps: time steps left out between training, validation and test.
        static: fields of the store that do not change with time, such as orography, which the model is given;
            all by default.
    """

    store: Path
    variables: list[str] | None = None
    train_period: Annotated[
        str | None, BeforeValidator(lambda value: value if value is None else str(value))
    ] = None
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    samples_per_epoch: Annotated[int, Field(ge=0, le=10**12)] = 0
    cache_bytes: Annotated[int, Field(ge=0, le=2**50)] = 2**30
    buffer_bytes: Annotated[int, Field(ge=0, le=2**50)] = 2**29
    route: Literal["dask", "direct"] = "dask"
    gap_steps: Annotated[int, Field(ge=0, le=10**9)] = 0
    static: list[str] | None = None


class _ModelConfig(Strict):
    """What all models share.

    Attributes:
        window: number of input states.
        members: networks that are trained apart, each on its part of every batch, and averaged in forecasts.
    """

    window: Layers = 2
    members: Layers = 1


class FNOConfig(_ModelConfig, FourierKeys):
    """A Fourier neural operator; the keys are the arguments of ``fourcaster.fno.FNO``.

    ``domain_padding`` is the margin along dimensions that do not wrap.
    """

    kind: Literal["fno"]
    n_modes: tuple[Modes, Modes] = (8, 8)


class TFNOConfig(FNOConfig):
    """A Fourier neural operator with factorized weights; the keys are the arguments of
    ``fourcaster.fno.TFNO``.
    """

    kind: Literal["tfno"]  # type: ignore[assignment]
    factorization: Literal["tucker", "cp", "depthwise"] = "tucker"
    rank: Ratio = 0.1


class SFNOConfig(_ModelConfig):
    """A spherical Fourier neural operator, for global grids; the keys are the arguments of
    ``fourcaster.fno.SFNO``.

    ``equivariant`` gives convolutions that commute with every rotation of the sphere.
    """

    kind: Literal["sfno"]
    lmax: Modes = 16
    equivariant: bool = False
    hidden_channels: Width = 32
    n_layers: Layers = 4
    lifting_channel_ratio: Ratio = 2
    projection_channel_ratio: Ratio = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    norm: Literal["none", "instance", "layer"] = "none"


class AFNOConfig(_ModelConfig):
    """An adaptive Fourier neural operator; the keys are the arguments of ``fourcaster.fno.AFNO``."""

    kind: Literal["afno"]
    patch_size: tuple[Positive, Positive] = (4, 4)
    embed_dim: Width = 128
    depth: Layers = 4
    num_blocks: Width = 8
    mlp_ratio: Ratio = 4.0
    sparsity_threshold: Annotated[float, Field(ge=0, le=1e6)] = 0.01
    hard_thresholding_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0


ModelConfig = FNOConfig | TFNOConfig | SFNOConfig | AFNOConfig


class LossConfig(Strict):
    """What a forecast model is trained for beside the data; nothing by default.

    Attributes:
        physics: weight of each balance that the forecast should keep as the truth does, see
            ``fno.physics.balances``.
        warmup: share of the training over which these weights rise from zero.
        compare: train the same model on the data alone too, in ``output/data_only``, and report both.
    """

    physics: dict[
        Literal["hydrostatic", "thermal_wind", "continuity", "dry_mass", "energy"],
        Annotated[float, Field(gt=0)],
    ] = Field(default_factory=dict)
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.2
    compare: bool = True


class Config(Strict):
    """A whole training run.

    Attributes:
        data: what to train on.
        model: which network.
        loss: what counts beside the data.
        train: how to train; see ``fno.training.TrainSettings``.
        output: folder of the run; weights end up in ``output/checkpoint``, what a resume needs in
            ``output/state``.
    """

    data: DataConfig
    model: Annotated[ModelConfig, Field(discriminator="kind")]
    loss: LossConfig = LossConfig()
    train: TrainSettings = TrainSettings()
    output: Path


AnyConfig = Config | OperatorConfig | PinnConfig
_MOST_PARENTS = 8


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> AnyConfig:
    """Read a configuration.

    With an ``equation`` it is that of a solution operator where there is a ``model.kind``, else of a
    physics-informed network; without one, that of a forecast model.

    Args:
        source: YAML file, or the name of a recipe that comes with the package.
        overrides: ``key=value`` with dotted keys; values are YAML.

    Raises:
        FileNotFoundError: no such file or recipe.
        ValueError: not YAML, an unknown key, or a value that does not fit.
    """
    recipes = dict(_recipes(files("fourcaster.configs")))
    if str(source) in recipes and not os.path.isfile(source):
        values = parse_yaml(recipes[str(source)].read_text(), str(source))
    elif os.path.exists(source) and not os.path.isdir(source):
        values = read_yaml(source)
    else:
        raise FileNotFoundError(
            f"no configuration {source}: no such file, and the recipes are {', '.join(sorted(recipes))}"
        )
    if not isinstance(values, dict):
        raise ValueError(f"{source} holds no keys; see configs/ for examples")
    return make_config(values, overrides, str(source))


def _recipes(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _recipes(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            yield prefix + entry.name.removesuffix(".yaml"), entry


def make_config(
    values: dict[str, Any], overrides: Sequence[str] = (), source: str = "the configuration"
) -> AnyConfig:
    """Validate a nested dict with overrides applied; raises as ``load_config`` does."""
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ValueError(f"{override!r} is not an override; write key=value, e.g. train.epochs=20")
        at = values
        *parents, last = key.split(".")
        if len(parents) > _MOST_PARENTS:
            raise ValueError(f"{key[:80]} cannot be set: no key has that many parts")
        for parent in parents:
            at = at.setdefault(parent, {})
            if not isinstance(at, dict):
                raise ValueError(f"{key} cannot be set: {parent} holds a value, not keys")
        at[last] = parse_yaml(value, key)
    kind: type[AnyConfig] = Config
    if "equation" in values:
        model = values.get("model")
        kind = OperatorConfig if isinstance(model, dict) and "kind" in model else PinnConfig
    _refuse_unknown(values, kind, "", source)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("fno", "tfno", "sfno", "afno"))
        given = "" if first["type"] == "missing" else f", got {one_line(repr(first['input']), 120)}"
        if where in ("", "equation") and first["type"] == "value_error":
            given = ""
        raise ValueError(
            f"{source}: {where}{': ' if where else ''}{first['msg'].removeprefix('Value error, ')}{given}"
        ) from error


def _refuse_unknown(values: dict[str, Any], model: Any, prefix: str, source: str) -> None:
    known = (
        {f.name: f.type for f in fields(model)}
        if is_dataclass(model)
        else {n: f.annotation for n, f in model.model_fields.items()}
    )
    for key, value in values.items():
        if key not in known:
            raise ValueError(
                f"{source}: unknown key {prefix}{key}; {nearest(f'{prefix}{key}', [prefix + name for name in known])}"
            )
        inner = known[key]
        if options := [o for o in get_args(inner) if isinstance(o, type) and issubclass(o, Strict)]:
            kind = value.get("kind") if isinstance(value, dict) else None
            inner = next((o for o in options if kind in get_args(o.model_fields["kind"].annotation)), None)
        if inner is EquationConfig:  # knows its keys itself
            continue
        if (
            isinstance(value, dict)
            and isinstance(inner, type)
            and (is_dataclass(inner) or issubclass(inner, BaseModel))
        ):
            _refuse_unknown(value, inner, f"{prefix}{key}.", source)


def parse_arguments(words: list[str]) -> dict[str, Any]:
    """Return KEY=VALUE, --key=VALUE and --key VALUE as a dict; values are YAML, lists may go without
    brackets.

    Raises:
        ValueError: something else among the words.
    """
    found: dict[str, Any] = {}
    rest = list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not equals:
            if not name.startswith("--") or not rest:
                raise ValueError(
                    f"{name!r} is not understood; write KEY=VALUE or --key VALUE, e.g. inp_shape=720,1440"
                )
            value = rest.pop(0)
        try:
            given = parse_yaml(f"[{value}]" if "," in value and "[" not in value else value, name)
        except ValueError as error:
            raise ValueError(
                f"{name}: {one_line(repr(value), 120)} is not understood; write e.g. inp_shape=720,1440"
            ) from error
        found[name.removeprefix("--").replace("-", "_")] = given
    return found
