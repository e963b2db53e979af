"""Types of the values in a jobs file: durations, cron expressions and templates of paths."""

import string
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, Field

from ...datasets.durations import parse_duration
from .times import parse_time

_LONGEST = timedelta(days=36525)
_CRON_FIELDS = 5  # a sixth would be seconds


def _duration(value: Any) -> timedelta:
    duration = parse_duration(str(value))
    if duration > _LONGEST:
        raise ValueError("should be 100 years at most")
    return duration


def _at_least_a_second(duration: timedelta) -> timedelta:
    if duration < timedelta(seconds=1):
        raise ValueError("should be 1 s at least")
    return duration


def _lead(text: str) -> str:
    _duration(text)
    return text


def _cron(text: str) -> str:
    try:
        if len(text.split()) != _CRON_FIELDS:
            raise CronSimError("Wrong number of fields")
        if next(CronSim(text, datetime(2000, 1, 1)), None) is None:
            raise CronSimError("no such day ever comes")
    except CronSimError as error:
        raise ValueError(
            f"is no cron expression ({error}); write minute hour day month weekday, e.g. '0 */6 * * *'"
        ) from error
    return text


def _template(text: str) -> str:
    """Refuse a template with unknown names, or one that could lead out of its folder."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"is no template ({error})") from error
    for _, name, form, conversion in parts:
        if name not in (None, "name", "cycle"):
            raise ValueError(
                f"names {{{name}}}, but there are {{name}} and {{cycle}}, e.g. {{cycle:%Y%m%dT%H}}"
            )
        if name == "name" and (form or conversion):
            raise ValueError("has a form for {name}, which is written as it is")
        if name == "cycle" and (not form or "/" in form or "." in form or conversion):
            raise ValueError("needs a form for {cycle}, such as {cycle:%Y%m%dT%H}, without slashes or dots")
    if ".." in Path(text).parts:
        raise ValueError("contains '..', which could lead out of its folder")
    return text


def _output(text: str) -> str:
    if "{cycle" not in text:
        raise ValueError(
            "lacks {cycle}, so that one cycle would replace another; "
            "write e.g. out/{name}/{cycle:%Y%m%dT%H}.zarr"
        )
    if not text.endswith((".zarr", ".nc")):
        raise ValueError("must end in .zarr or .nc")
    return _template(text)


Count = Annotated[int, Field(ge=1, le=10**6)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
PositiveDuration = Annotated[Duration, AfterValidator(_at_least_a_second)]
Time = Annotated[datetime, BeforeValidator(parse_time)]
Lead = Annotated[str, AfterValidator(_lead)]
Cron = Annotated[str, AfterValidator(_cron)]
Command = Annotated[list[str], Field(min_length=1)]
Template = Annotated[str, AfterValidator(_template)]
Output = Annotated[str, AfterValidator(_output)]
