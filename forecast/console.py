"""What all verbs of the command share: their common options, progress, errors and results."""

import errno
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Read also what links within a store or file lead to outside of it; only where you trust it.")
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; a GPU where there is one by default.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, e.g. train.epochs=20.")]


@contextmanager
def reported() -> Iterator[Callable[[str], Any]]:
    """Show progress inside, and turn an error of the user's into one line and exit code 2."""
    from .display import Display

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of reads under way when one fails, at exit
    try:
        with Display() as display:
            yield display.stage
    except (ValueError, OSError) as error:
        if os.environ.get("FOURCASTER_DEBUG"):
            raise
        text = error.strerror if isinstance(error, OSError) and error.strerror and not error.filename else str(error)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and "no room" not in text:
            text = f"no room on the disk ({text}); free some space and run it again"
        print(f"forecast: {' '.join(text.split())}", file=sys.stderr)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        print("forecast: stopped; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None


def refuse_unused(context: typer.Context, used: Collection[str], why: str) -> None:
    """Raise ``ValueError`` where the command line has an option that is none of ``used``, by the names of the verb's parameters."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in used:
            raise ValueError(f"{parameter.opts[-1]} has no use here: {why}; leave it out")


def show(values: Any, as_json: bool, text: str) -> None:
    """Print a result, as JSON, in which numbers that are not finite are null, or as text."""
    print(json.dumps(_finite(values), indent=1, default=str) if as_json else text)


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
