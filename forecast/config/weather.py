"""Configuration of the task ``weather``: a forecast model trained on a store."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from ...fno.models import REGISTRY
from ...fno.training.settings import TrainSettings
from .loss import LossConfig
from .sections import (
    MODEL_KINDS,
    FourierKeys,
    Layers,
    ModelSection,
    Modes,
    PartConfig,
    PluginModelConfig,
    Positive,
    Ratio,
    Strict,
    Width,
)


class SamplerConfig(PartConfig):
    """Order of the training samples; see ``datasets.loaders.samplers``. Its options are further keys.

    Attributes:
        kind: name of the sampler, or ``module:Class``; its code is imported in training only.
    """


class DataConfig(Strict):
    """Training data.

    Attributes:
        store: store written by ``forecast ingest``.
        variables: variables to forecast; all of the store by default.
        train_period: ``START:STOP``; the period of the store by default. Later times are the test period.
        validation_fraction: fraction of the training period, at its end, on which the best epoch is chosen.
        validation_period: ``START:STOP``, a period outside the training period on which the best epoch is
            chosen, in place of that fraction and of ``gap_steps``.
        samples_per_epoch: maximum number of samples per epoch; 0 for all.
        cache_bytes: stores up to this size [B] are kept in memory.
        buffer_bytes: larger stores are shuffled in pools of about this size [B] in total.
        route: how values are read: through ``dask``, or ``direct`` by zarr with the package zarrs, which is
            several times faster.
        gap_steps: time steps left out between training, validation and test periods.
        static: time-invariant fields of the store, such as orography, used as model inputs; all by default.
        forcings: further inputs that are known in advance and not forecast: variables of the store, such as
            the sea-surface temperature, which a forecast then needs at all its lead times; names registered
            under the entry point group ``fourcaster.forcings``; or ``module:function``. None by default.
        sampler: order of the samples of an epoch: ``kind``, registered under ``fourcaster.samplers`` or
            ``module:Class``, and its options; shuffled by default.
    """

    store: Path
    variables: list[str] | None = None
    train_period: Annotated[
        str | None, BeforeValidator(lambda value: value if value is None else str(value))
    ] = None
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    validation_period: Annotated[
        str | None, BeforeValidator(lambda value: value if value is None else str(value))
    ] = None
    samples_per_epoch: Annotated[int, Field(ge=0, le=10**12)] = 0
    cache_bytes: Annotated[int, Field(ge=0, le=2**50)] = 2**30
    buffer_bytes: Annotated[int, Field(ge=0, le=2**50)] = 2**29
    route: Literal["dask", "direct"] = "dask"
    gap_steps: Annotated[int, Field(ge=0, le=10**9)] = 0
    static: list[str] | None = None
    forcings: Annotated[list[str], Field(default_factory=list)]
    sampler: SamplerConfig | None = None


class FNOConfig(ModelSection, FourierKeys):
    """A Fourier neural operator; the keys are the arguments of ``fourcaster.fno.FNO``.

    Attributes:
        kind: ``fno``.
        n_modes: retained modes along latitude and longitude.
    """

    kind: Literal["fno"]
    n_modes: tuple[Modes, Modes] = (8, 8)


class TFNOConfig(FNOConfig):
    """A factorized Fourier neural operator; the keys are the arguments of ``fourcaster.fno.TFNO``.

    Attributes:
        kind: ``tfno``.
        factorization: form of the spectral weights: ``tucker``, ``cp`` or ``depthwise``.
        rank: size of the factors as a fraction of the dense weights; 1 means 1.0.
    """

    kind: Literal["tfno"]  # type: ignore[assignment]
    factorization: Literal["tucker", "cp", "depthwise"] = "tucker"
    rank: Ratio = 0.1


class SFNOConfig(ModelSection):
    """A spherical Fourier neural operator; the keys are the arguments of ``fourcaster.fno.SFNO``.

    It needs a global grid.

    Attributes:
        kind: ``sfno``.
        lmax: number of retained degrees of the spherical harmonics.
        equivariant: use convolutions that commute with every rotation of the sphere.
        analysis: ``quadrature``, or ``least_squares``, which resolves twice as many degrees on evenly spaced
            latitudes.
        local: add differences towards east and south to each block.
        hidden_channels: width of the network.
        n_layers: number of blocks.
        lifting_channel_ratio: hidden width of the lifting network as a multiple of ``hidden_channels``.
        projection_channel_ratio: hidden width of the projection as a multiple of ``hidden_channels``.
        dropout: probability with which an activation is set to zero in training.
        norm: normalisation in the blocks: ``none``, ``instance`` or ``layer``.
    """

    kind: Literal["sfno"]
    lmax: Modes = 16
    equivariant: bool = False
    analysis: Literal["quadrature", "least_squares"] = "quadrature"
    local: bool = False
    hidden_channels: Width = 32
    n_layers: Layers = 4
    lifting_channel_ratio: Ratio = 2
    projection_channel_ratio: Ratio = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    norm: Literal["none", "instance", "layer"] = "none"


class AFNOConfig(ModelSection):
    """An adaptive Fourier neural operator; the keys are the arguments of ``fourcaster.fno.AFNO``.

    Attributes:
        kind: ``afno``.
        patch_size: grid points of a patch along latitude and longitude.
        embed_dim: width of the network.
        depth: number of blocks.
        num_blocks: diagonal blocks of the mixer, which divide ``embed_dim``.
        mlp_ratio: hidden width of the pointwise networks as a multiple of ``embed_dim``.
        sparsity_threshold: threshold of the soft shrinkage in the mixer.
        hard_thresholding_fraction: fraction of the modes that the mixer keeps.
    """

    kind: Literal["afno"]
    patch_size: tuple[Positive, Positive] = (4, 4)
    embed_dim: Width = 128
    depth: Layers = 4
    num_blocks: Width = 8
    mlp_ratio: Ratio = 4.0
    sparsity_threshold: Annotated[float, Field(ge=0, le=1e6)] = 0.01
    hard_thresholding_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0


ModelConfig = FNOConfig | TFNOConfig | SFNOConfig | AFNOConfig | PluginModelConfig


def _model_tag(values: Any) -> str | None:
    """Return the tag of the model configuration that ``kind`` selects."""
    kind = values.get("kind") if isinstance(values, dict) else getattr(values, "kind", None)
    if kind in MODEL_KINDS:
        return str(kind)
    return "plugin" if isinstance(kind, str) and REGISTRY.offers(kind) else None


AnyModel = Annotated[
    Annotated[FNOConfig, Tag("fno")]
    | Annotated[TFNOConfig, Tag("tfno")]
    | Annotated[SFNOConfig, Tag("sfno")]
    | Annotated[AFNOConfig, Tag("afno")]
    | Annotated[PluginModelConfig, Tag("plugin")],
    Discriminator(
        _model_tag,
        custom_error_type="model_kind",
        custom_error_message=(
            "kind should be 'fno', 'tfno', 'sfno', 'afno', a model registered as an entry point, or "
            "module:Class"
        ),
    ),
]
"""Section ``model``; the key ``kind`` selects the network."""


class WeatherConfig(Strict):
    """A training run of a forecast model.

    Attributes:
        task: ``weather``.
        data: training data.
        model: the network.
        loss: data loss, weights of channels and physics terms.
        train: settings of the training loop; see ``fno.training.TrainSettings``.
        parent: checkpoint whose weights training starts from, of a forecast model or an imported network; see
            ``forecast finetune``. None by default.
        output: folder of the run; the checkpoint is written to ``output/checkpoint``, the state that a
            resumed run needs to ``output/state``.
    """

    task: Literal["weather"] = "weather"
    data: DataConfig
    model: AnyModel
    loss: LossConfig = LossConfig()
    train: TrainSettings = TrainSettings()
    parent: Path | None = None
    output: Path

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        ensemble = self.loss.loss_class.ensemble
        if ensemble and not self.model.noise_channels:
            raise ValueError(
                f"loss.kind {self.loss.kind} compares members that differ by a noise input; set "
                "model.noise_channels to 1 or more"
            )
        if self.model.noise_channels and not ensemble:
            raise ValueError(
                f"model.noise_channels has no effect with loss.kind {self.loss.kind}, which trains a single "
                "forecast; leave it out, or set loss.kind to afcrps"
            )
        if self.train.lead_times and self.loss.physics:
            raise ValueError(
                "loss.physics compares consecutive states, train.lead_times trains on others; leave out one "
                "of them"
            )
        return self
