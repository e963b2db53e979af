"""Common parts of the verbs: options, progress, error messages and output."""

import json
import logging
import math
import os
import select
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ...datasets.stopping import handled
from ..text import one_line, printable
from .failures import BAD_INPUT, explain, write_traceback

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
FollowLinks = Annotated[
    bool,
    typer.Option(
        "--follow-links",
        help="Follow links that lead out of a store or file; use it only with data that you trust.",
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; by default a GPU if there is one.")]
LeadUnits = Annotated[
    str | None, typer.Option(help="Units of lead times that are numbers without units, e.g. hours.")
]
Trust = Annotated[
    list[Path] | None,
    typer.Option(
        "--trust",
        help="Folder from which to import code that a configuration or checkpoint names as module:Class; "
        "repeatable. Code of installed packages needs no trust.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the configuration, e.g. train.epochs=20."),
]

READER_GONE = 141  # exit code of a process that SIGPIPE ended


class Verbs(TyperGroup):
    """The verbs of the command; any error in one, in its options or in its output is reported in one line."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a verb and exit."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode, windows_expand_args, **extra)

        def run_verb() -> None:
            with self.make_context(
                prog_name or "forecast", list(sys.argv[1:] if args is None else args), **extra
            ) as context:
                self.invoke(context)

        with _quiet_libraries():
            code = _run(run_verb)
        sys.exit(code)


def _run(verb: Callable[[], None]) -> int:
    """Run a verb and return the exit code."""
    try:
        with handled():
            verb()
            _flush()
    except (typer.Exit, SystemExit) as end:
        code = end.exit_code if isinstance(end, typer.Exit) else end.code
        try:
            _flush()
        except OSError as error:
            return _report(error)
        return code if isinstance(code, int) else bool(code)
    except BaseException as error:  # noqa: BLE001  any error is reported
        return _report(error)
    return 0


@contextmanager
def reported() -> Iterator[Callable[[str], Any]]:
    """Show progress inside the context, and turn an error into one line and an exit code."""
    from .display import Display

    # After a failed read, asyncio would report the pending ones at exit.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        with Display() as display:
            yield display.stage
    except (typer.Exit, SystemExit):
        raise
    except BaseException as error:
        raise typer.Exit(_report(error)) from error


def end_process(error: BaseException) -> None:
    """Report an error and end the process at once, from any thread."""
    text, code = explain(error)
    _print_error(text)
    with suppress(OSError, ValueError):
        _flush()
    os._exit(code)


@contextmanager
def trusted(folders: Sequence[Path] | None) -> Iterator[None]:
    """Permit imports from the folders of the option ``--trust`` inside the context."""
    if not folders:
        yield
        return
    from ...fno.references import trusting

    with trusting(*folders):
        yield


def _report(error: BaseException) -> int:
    """Print an error and return the exit code; with FOURCASTER_DEBUG set, raise it instead."""
    if isinstance(error, BrokenPipeError) and _reader_is_gone():
        return READER_GONE
    if hasattr(error, "format_message"):  # of typer
        return _report_usage(error)
    if isinstance(error, typer.Abort):
        error = KeyboardInterrupt()
    if os.environ.get("FOURCASTER_DEBUG") and isinstance(error, Exception):
        raise error
    text, code = explain(error)
    if getattr(error, "already_reported", False):  # by another process of the same training
        return code
    _print_error(text)
    if isinstance(error, OSError):
        _reader_is_gone()  # standard output may be the full device
    return code


def _report_usage(error: Any) -> int:
    """Print what is wrong with the command line, or the help if it is empty."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return int(error.exit_code)
    context = getattr(error, "ctx", None)
    hint = (
        f"; see {' '.join(['forecast', *context.command_path.split()[1:]])} --help"
        if context is not None
        else ""
    )
    _print_error(f"{one_line(error.format_message()).rstrip('.')}{hint}")
    return int(getattr(error, "exit_code", BAD_INPUT))


def _print_error(text: str) -> None:
    """Print a line on standard error if it is open."""
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(f"forecast: {text}", file=sys.stderr, flush=True)


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _reader_is_gone() -> bool:
    """Return whether standard output is closed; pending output is then discarded."""
    closed = False
    try:
        _flush()
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)
        closed = any(event & select.POLLERR for _, event in watched.poll(0))
    except (OSError, ValueError):  # no file descriptor, or closed, or full
        closed = True
    if closed:
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
    return closed


class _Lines(logging.Handler):
    """Print each log record as one line on the current standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            print(one_line(record.getMessage()), file=sys.stderr, flush=True)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Turn warnings and errors of libraries into log lines, and let the standard streams print any text."""
    log = logging.getLogger("fourcaster.forecast")

    def warn(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        log.warning("%s: %s", category.__name__, message)

    def in_thread(arguments: Any) -> None:
        where = write_traceback(arguments.exc_value)
        log.error("a thread failed with %s: %s (%s)", arguments.exc_type.__name__, arguments.exc_value, where)

    with ExitStack() as after:
        handler = _Lines(logging.WARNING)
        logging.root.addHandler(handler)
        after.callback(logging.root.removeHandler, handler)
        for module, name, value in (
            (warnings, "showwarning", warn),
            (threading, "excepthook", in_thread),
            (
                sys,
                "unraisablehook",
                lambda arguments: log.debug("%s: %s", arguments.err_msg, arguments.exc_value),
            ),
        ):
            after.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                after.callback(stream.reconfigure, errors=stream.errors)
                stream.reconfigure(errors="backslashreplace")
        yield


def refuse_options(context: typer.Context, accepted: Collection[str], subject: str) -> None:
    """Raise ``ValueError`` if the command line has an option that is not accepted.

    Args:
        context: context of the verb.
        accepted: names of the verb's parameters.
        subject: what the options do not apply to, for the message.
    """
    options = {parameter.name: parameter.opts[-1] for parameter in context.command.params}
    listed = ", ".join(option for name, option in options.items() if name in accepted and option[:2] == "--")
    for name, option in options.items():
        source = context.get_parameter_source(name or "")
        if source is not None and source.name == "COMMANDLINE" and name not in accepted:
            raise ValueError(f"{option} does not apply to {subject}; its options are {listed}")


def option_values(context: typer.Context) -> dict[str, Any]:
    """Return the values of the verb's parameters by name; repeated options as a list, None without any."""
    return {
        name: (list(value) or None) if isinstance(value, tuple) else value
        for name, value in context.params.items()
    }


def show_summary(summary: Any, as_json: bool, *, table: Callable[[Any], str] | None = None) -> None:
    """Print a ``Summary`` of a task; one without a text as lines, or rows of scores by ``table``."""
    from .display import describe

    text = summary.values if summary.text is None else summary.text
    if not isinstance(text, str):
        text = table(text) if table is not None and isinstance(text, list) else describe(text)
    show(summary.values, as_json, text)


def show(values: Any, as_json: bool, text: str) -> None:
    """Print a result as text, or as JSON with null for non-finite numbers."""
    print(json.dumps(_finite(values), indent=1, default=str) if as_json else printable(text))


def _finite(values: Any) -> Any:
    """Return nested values with None in place of non-finite numbers."""
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
