"""Section ``loss`` of a forecast model: the data loss, the weights of channels, and physics terms."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ...datasets.suggestions import suggest
from ...fno.losses.base import DataLoss
from ...fno.losses.registry import LOSSES
from .sections import Strict

Weight = Annotated[float, Field(ge=0, le=1e6)]


class LossConfig(Strict):
    """The loss of a forecast model; by default the area-weighted mean square error.

    Attributes:
        kind: data loss: ``mse``, ``mae``, ``huber``, ``relative_l2``, ``h1`` (values and gradients),
            ``spectral`` (amplitude and coherence by scale), ``quantile``, or ``afcrps`` (almost fair CRPS of
            an ensemble, which needs ``model.noise_channels``). With any of them, the best epoch is chosen by
            the root mean square error.
        delta: of ``huber``: error at which it changes from a square to an absolute value, in units of
            ``channel_weights``; 1 by default.
        quantile: of ``quantile``: level that is forecast, between 0 and 1; 0.5, the median, by default.
        gradient_length: of ``h1``: length that weighs gradients [spacings of rows]; 2 by default.
        members: of ``afcrps``: number of forecasts per sample; 2 by default.
        alpha: of ``afcrps``: share of the fair score, from 0 to 1; 0.95 by default.
        channel_weights: units of the errors, which weigh the channels automatically: the standard deviation
            of the ``tendency`` (change of the anomaly in one step), of the ``anomaly`` (departure from the
            seasonal cycle) or of the ``state``.
        variables: weights of variables by name; one by default.
        levels: weights of pressure levels [hPa]; one by default, and for channels without a level. The weight
            of a channel is that of its variable times that of its level, divided by the mean over channels.
        physics: weight of each balance whose error against the truth is penalised, see
            ``fno.physics.balances``.
        warmup: fraction of the training over which these weights increase from zero.
        compare: also train the same model without balances, in ``output/data_only``, and report both.
    """

    kind: str = "mse"
    delta: Annotated[float, Field(gt=0, le=1e6)] | None = None
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    gradient_length: Annotated[float, Field(gt=0, le=1e6)] | None = None
    members: Annotated[int, Field(ge=2, le=1000)] | None = None
    alpha: Annotated[float, Field(ge=0, le=1)] | None = None
    channel_weights: Literal["tendency", "anomaly", "state"] = "tendency"
    variables: Annotated[dict[str, Weight], Field(max_length=10_000)] = Field(default_factory=dict)
    levels: Annotated[dict[float, Weight], Field(max_length=10_000)] = Field(default_factory=dict)
    physics: dict[
        Literal["hydrostatic", "thermal_wind", "continuity", "dry_mass", "energy"],
        Annotated[float, Field(gt=0)],
    ] = Field(default_factory=dict)
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.2
    compare: bool = True

    @field_validator("kind")
    @classmethod
    def _check_kind(cls, kind: str) -> str:
        if not LOSSES.offers(kind):
            raise ValueError(f"no such loss; {suggest(kind, LOSSES)}")
        return kind

    @model_validator(mode="after")
    def _check_options(self) -> "LossConfig":
        for name, kinds in _option_kinds().items():
            if getattr(self, name) is not None and self.kind not in kinds:
                raise ValueError(f"{name} has no effect on kind {self.kind}, only on {', '.join(kinds)}")
        if self.channel_weights != "tendency" and not self.loss_class.uses_scale:
            raise ValueError(
                f"channel_weights has no effect on kind {self.kind}, which is the same in all units"
            )
        return self

    @property
    def loss_class(self) -> type[DataLoss]:
        """Class of the data loss."""
        return LOSSES[self.kind]

    @property
    def options(self) -> dict[str, Any]:
        """Options of the data loss that differ from its defaults."""
        values = {name: getattr(self, name) for name in self.loss_class.options()}
        return {name: value for name, value in values.items() if value is not None}

    def changed(self) -> dict[str, Any]:
        """Return the keys with values other than the default that affect the data loss."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"physics", "warmup", "compare"})


def _option_kinds() -> dict[str, list[str]]:
    """Return for each option the kinds of loss that have it."""
    options = dict.fromkeys(name for kind in LOSSES.values() for name in kind.options())
    return {
        option: [name for name, kind in LOSSES.items() if option in kind.options()]
        for option in options
        if option in LossConfig.model_fields
    }
