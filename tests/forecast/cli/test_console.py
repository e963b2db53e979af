"""Every failure of a command is reported in one line and by its exit code."""

import contextlib
import io
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from fourcaster.datasets.stopping import Stopped, cooperative
from fourcaster.forecast.cli.console import reported
from fourcaster.forecast.cli.display import Display
from fourcaster.forecast.cli.failures import explain
from fourcaster.forecast.cli.main import app

pytestmark = pytest.mark.usefixtures("default_signal_handlers")

MAIN = "from fourcaster.forecast.cli.main import main; main()"


class Report(dict):
    """Result of a function, as far as the command reads it."""

    def to_dict(self):
        return self


def doctor_code(values):
    """Return code that replaces the report of ``forecast doctor``."""
    return (
        "import types, fourcaster.forecast.doctor as d\n"
        f"report = types.SimpleNamespace(problems=[], to_dict=lambda: {values})\n"
        "d.doctor = lambda: report\n"
    )


def run_failing(monkeypatch, error):
    """Run ``forecast inspect`` with an error raised inside it, and return the result of the command."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("fourcaster.forecast.inspection.inspect", fail)
    return CliRunner().invoke(app, ["inspect", "x"])


@pytest.fixture(autouse=True)
def traceback_dir(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


UNEXPECTED = [
    KeyError("statistics"),
    TypeError("'NoneType' object is not subscriptable"),
    AttributeError("x"),
    IndexError("list index out of range"),
    RuntimeError("nobody thought of this"),
    ZeroDivisionError("division by zero"),
    AssertionError(),
    NotImplementedError("x"),
    ImportError("no module"),
    ValueError(),
]


@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda error: type(error).__name__)
def test_unexpected_error_is_one_line_naming_a_private_traceback_file(error, monkeypatch, tmp_path):
    result = run_failing(monkeypatch, error)
    (file,) = tmp_path.glob("forecast-traceback-*.txt")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert f"forecast: unexpected {type(error).__name__}" in result.stderr
    assert str(file) in result.stderr
    assert "Traceback (most recent call last)" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_traceback_contains_no_secrets(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    run_failing(monkeypatch, KeyError("hunter2hunter2 at https://user:password@example.org/x"))
    text = next(tmp_path.glob("forecast-traceback-*.txt")).read_text()
    assert "hunter2hunter2" not in text
    assert "password" not in text


def test_error_is_reported_even_if_the_traceback_cannot_be_written(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    result = run_failing(monkeypatch, KeyError("x"))
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "FOURCASTER_DEBUG=1" in result.stderr


def struct_error():
    try:
        struct.unpack("<Q", b"1")
    except struct.error as error:
        return error


def zlib_error():
    try:
        zlib.decompress(b"nothing")
    except zlib.error as error:
        return error


INVALID_INPUT = [
    (MemoryError(), "more memory than is available"),
    (np._core._exceptions._ArrayMemoryError((10**9, 10**9), np.dtype("f8")), "Unable to allocate"),
    (
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
        "more memory than is available",
    ),
    (torch.OutOfMemoryError("CUDA out of memory"), "more memory than is available"),
    (ValueError("Maximum allowed dimension exceeded"), "more memory than is available"),
    (OSError(12, "Cannot allocate memory"), "more memory than is available"),
    (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
    (OverflowError("Python int too large to convert to C long"), "out of range"),
    (zipfile.BadZipFile("File is not a zip file"), "cannot be read"),
    (EOFError("no more"), "cannot be read"),
    (RuntimeError("NetCDF: HDF error"), "cannot be read"),
    (RuntimeError("error during blosc decompression: -1"), "cannot be read"),
    (yaml.YAMLError("x"), "cannot be read"),
    (struct_error(), "cannot be read"),
    (zlib_error(), "cannot be read"),
    (PermissionError(13, "Permission denied", "/root/x"), "/root/x: Permission denied"),
    (OSError(28, "No space left on device"), "no room on the disk"),
    (ValueError("a\nb   c"), "a b c"),
    (ExceptionGroup("of tasks", [ValueError("the first")]), "the first"),
]


@pytest.mark.parametrize(
    ("error", "text"),
    INVALID_INPUT,
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_invalid_input_is_one_line_and_exit_code_2(error, text, monkeypatch, tmp_path):
    result = run_failing(monkeypatch, error)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert text in result.stderr
    assert not list(tmp_path.iterdir())


def test_error_line_is_printable_and_of_bounded_length(monkeypatch):
    result = run_failing(monkeypatch, ValueError("\x1b[31mred\x1b[0m \u202eleft \r\n" + "x" * 10**7))
    assert result.stderr.startswith("forecast: red left x")
    assert len(result.stderr) < 3000
    assert result.stderr[:-1].isprintable()


def test_error_without_string_representation_is_reported():
    class Bad(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    text, code = explain(Bad())
    assert code == 1
    assert text.startswith("unexpected Bad")


@pytest.mark.parametrize(("variable", "reraised"), [("1", True), ("", False)])
def test_debug_variable_reraises_the_error(variable, reraised, monkeypatch):
    monkeypatch.setenv("FOURCASTER_DEBUG", variable)
    result = run_failing(monkeypatch, KeyError("x"))
    assert isinstance(result.exception, KeyError) is reraised


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["inspect", "--nothing", "x"], "No such option: --nothing; see forecast inspect --help"),
        (["inspect"], "Missing argument"),
        (["nothing"], "No such command"),
        (["--nothing"], "No such option"),
        (["run", "x", "-o", "y", "--members", "\x1b[31mmany"], "should be a valid integer"),
        (["run", "x", "-o", "y", "--members", "0"], "Invalid value for '--members'"),
        (["jobs", "nothing"], "No such command"),
        (["jobs", "status"], "Missing argument"),
        (["jobs", "run", "a", "b"], "Missing option '--cycle'"),
    ],
)
def test_usage_error_is_one_line(args, text):
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr[:-1].isprintable()
    assert text in result.stderr


def test_help_is_printed_without_arguments():
    result = CliRunner().invoke(app, [])
    assert "quickstart" in result.output
    assert CliRunner().invoke(app, ["run", "--help"]).exit_code == 0


def test_error_while_printing_a_result_is_one_line(monkeypatch):
    monkeypatch.setattr("fourcaster.forecast.inspection.inspect", lambda *_, **__: Report({"kind": object()}))

    def fail(*_, **__):
        raise TypeError("not serializable")

    monkeypatch.setattr("json.dumps", fail)
    result = CliRunner().invoke(app, ["inspect", "x", "--json"])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["status", "run-due"])
def test_unexpected_errors_of_jobs_subcommands_are_reported(verb, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise KeyError("x")

    monkeypatch.setattr("fourcaster.forecast.jobs.scheduler.Scheduler.__init__", fail)
    result = CliRunner().invoke(app, ["jobs", verb, "x"])
    assert result.exit_code == 1
    assert "forecast: unexpected KeyError" in result.stderr
    assert len(list(tmp_path.iterdir())) == 1


def test_reported_block_outside_the_command_exits_with_code_1():
    with (
        pytest.raises(Exception, match="1") as caught,
        contextlib.redirect_stderr(io.StringIO()) as printed,
        reported(),
    ):
        raise KeyError("x")
    assert caught.value.exit_code == 1
    assert "unexpected KeyError" in printed.getvalue()


def test_warnings_and_thread_errors_are_printed_as_single_lines(monkeypatch):
    def work(*_, **__):
        warnings.warn("first\nsecond \x1b[31m", UserWarning, stacklevel=1)
        thread = threading.Thread(target=lambda: {}["key"])
        thread.start()
        thread.join()
        return Report({"kind": "x"})

    monkeypatch.setattr("fourcaster.forecast.inspection.inspect", work)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = CliRunner().invoke(app, ["inspect", "x"])
    lines = result.stderr.splitlines()
    assert result.exit_code == 0
    assert lines[0] == "UserWarning: first second"
    assert lines[1].startswith("a thread failed with KeyError: 'key'")
    assert len(lines) == 2


def test_terminal_escapes_in_attributes_are_removed(monkeypatch):
    monkeypatch.setattr(
        "fourcaster.forecast.inspection.inspect",
        lambda *_, **__: Report({"source": "\x1b]0;title\x07a\x1b[2Jb\u202ec", "list": ["\x9b1m", "x"]}),
    )
    result = CliRunner().invoke(app, ["inspect", "x"])
    assert result.stdout == "source: abc\nlist: , x\n"


def test_terminal_escapes_in_progress_are_removed(capsys):
    Display().stage("ingest")(0, 1, "to \x1b[31m\u202eabc [bold]")
    assert capsys.readouterr().err == "ingest 0%: to abc [bold]\n"


def run(*args: str, code: str = MAIN, **options):
    environment = os.environ | options.pop("env", {})
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored in background jobs
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        **options,
    )


def test_closed_pipe_ends_the_command_silently():
    code = doctor_code("{str(n): 'x' * 99 for n in range(9999)}")
    with run("doctor", code=code + MAIN) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == ""


def test_full_output_device_is_a_one_line_error():
    with open("/dev/full", "w") as full:
        code = doctor_code("{}")
        result = subprocess.run(
            [sys.executable, "-c", code + MAIN, "doctor"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "no room" in result.stderr


def test_unencodable_characters_are_escaped():
    code = doctor_code("{'name': 'caf\\u00e9 \\udc80'}")
    with run("doctor", code=code + MAIN, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}) as process:
        printed, errors = process.communicate()
    assert (process.returncode, errors) == (1 if errors else 0, "")
    assert "name: caf\\xe9" in printed


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_signal_is_one_line_with_its_own_exit_code(number, code):
    script = "import fourcaster.forecast.doctor as d, time\ndef wait():\n"
    script += "    print('ready', flush=True)\n    time.sleep(60)\nd.doctor = wait\n"
    with run("doctor", code=script + MAIN) as process:
        assert process.stdout.readline() == "ready\n"
        start = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert time.monotonic() - start < 10
    assert errors.startswith(f"forecast: stopped{'' if code == 130 else f' by {number.name}'}; ")
    assert errors.count("\n") == 1


def test_signal_message_includes_what_was_saved(monkeypatch):
    def work(*_, **__):
        with cooperative():
            os.kill(os.getpid(), signal.SIGTERM)
            raise Stopped("epoch 3 is saved in run/state")

    monkeypatch.setattr("fourcaster.forecast.inspection.inspect", work)
    result = CliRunner().invoke(app, ["inspect", "x"])
    assert result.exit_code == 143
    assert result.stderr == "forecast: stopped by SIGTERM; epoch 3 is saved in run/state\n"


def test_signal_handlers_are_restored(monkeypatch):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    monkeypatch.setattr("fourcaster.forecast.inspection.inspect", lambda *_, **__: Report({"kind": "x"}))
    assert CliRunner().invoke(app, ["inspect", "x"]).exit_code == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == before
    assert Path(sys.executable).exists()
