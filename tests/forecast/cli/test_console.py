"""Whatever goes wrong in a verb ends in one line and an exit code."""

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


def failing(monkeypatch, error):
    """Let ``forecast inspect`` raise an error, and return what the command does."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("fourcaster.forecast.inspection.inspect", fail)
    return CliRunner().invoke(app, ["inspect", "x"])


@pytest.fixture(autouse=True)
def own_folder_for_tracebacks(tmp_path, monkeypatch):
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
def test_an_unexpected_error_is_one_line_that_names_a_private_file_with_the_traceback(
    error, monkeypatch, tmp_path
):
    done = failing(monkeypatch, error)
    (file,) = tmp_path.glob("forecast-traceback-*.txt")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"forecast: unexpected {type(error).__name__}" in done.stderr
    assert str(file) in done.stderr
    assert "Traceback (most recent call last)" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_traceback_contains_no_secrets(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    failing(monkeypatch, KeyError("hunter2hunter2 at https://user:password@example.org/x"))
    text = next(tmp_path.glob("forecast-traceback-*.txt")).read_text()
    assert "hunter2hunter2" not in text
    assert "password" not in text


def test_without_a_folder_for_the_traceback_the_line_is_printed_all_the_same(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    done = failing(monkeypatch, KeyError("x"))
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "FOURCASTER_DEBUG=1" in done.stderr


def unpacking():
    try:
        struct.unpack("<Q", b"1")
    except struct.error as error:
        return error


def inflating():
    try:
        zlib.decompress(b"nothing")
    except zlib.error as error:
        return error


BAD_INPUT = [
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
    (unpacking(), "cannot be read"),
    (inflating(), "cannot be read"),
    (PermissionError(13, "Permission denied", "/root/x"), "/root/x: Permission denied"),
    (OSError(28, "No space left on device"), "no room on the disk"),
    (ValueError("a\nb   c"), "a b c"),
    (ExceptionGroup("of tasks", [ValueError("the first")]), "the first"),
]


@pytest.mark.parametrize(
    ("error", "text"),
    BAD_INPUT,
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(error, text, monkeypatch, tmp_path):
    done = failing(monkeypatch, error)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert text in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_line_is_printable_and_not_longer_than_a_page(monkeypatch):
    done = failing(monkeypatch, ValueError("\x1b[31mred\x1b[0m \u202eleft \r\n" + "x" * 10**7))
    assert done.stderr.startswith("forecast: red left x")
    assert len(done.stderr) < 3000
    assert done.stderr[:-1].isprintable()


def test_an_error_that_cannot_be_printed_is_still_reported():
    class Bad(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    text, code = explain(Bad())
    assert code == 1
    assert text.startswith("unexpected Bad")


@pytest.mark.parametrize(("variable", "raised"), [("1", True), ("", False)])
def test_the_environment_can_ask_for_the_error_itself(variable, raised, monkeypatch):
    monkeypatch.setenv("FOURCASTER_DEBUG", variable)
    done = failing(monkeypatch, KeyError("x"))
    assert isinstance(done.exception, KeyError) is raised


@pytest.mark.parametrize(
    ("words", "text"),
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
def test_a_wrong_command_line_is_one_line(words, text):
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr[:-1].isprintable()
    assert text in done.stderr


def test_help_is_printed_where_nothing_is_asked_for():
    done = CliRunner().invoke(app, [])
    assert "quickstart" in done.output
    assert CliRunner().invoke(app, ["run", "--help"]).exit_code == 0


def test_an_error_while_a_result_is_printed_is_one_line(monkeypatch):
    monkeypatch.setattr("fourcaster.forecast.inspection.inspect", lambda *_, **__: {"kind": object()})

    def fail(*_, **__):
        raise TypeError("not serializable")

    monkeypatch.setattr("json.dumps", fail)
    done = CliRunner().invoke(app, ["inspect", "x", "--json"])
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["status", "run-due"])
def test_verbs_of_jobs_are_reported_likewise(verb, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise KeyError("x")

    monkeypatch.setattr("fourcaster.forecast.jobs.scheduler.Scheduler.__init__", fail)
    done = CliRunner().invoke(app, ["jobs", verb, "x"])
    assert done.exit_code == 1
    assert "forecast: unexpected KeyError" in done.stderr
    assert len(list(tmp_path.iterdir())) == 1


def test_a_block_outside_of_the_command_exits_likewise():
    with (
        pytest.raises(Exception, match="1") as caught,
        contextlib.redirect_stderr(io.StringIO()) as printed,
        reported(),
    ):
        raise KeyError("x")
    assert caught.value.exit_code == 1
    assert "unexpected KeyError" in printed.getvalue()


def test_warnings_and_threads_print_lines(monkeypatch):
    def work(*_, **__):
        warnings.warn("first\nsecond \x1b[31m", UserWarning, stacklevel=1)
        thread = threading.Thread(target=lambda: {}["key"])
        thread.start()
        thread.join()
        return {"kind": "x"}

    monkeypatch.setattr("fourcaster.forecast.inspection.inspect", work)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = CliRunner().invoke(app, ["inspect", "x"])
    lines = done.stderr.splitlines()
    assert done.exit_code == 0
    assert lines[0] == "UserWarning: first second"
    assert lines[1].startswith("a thread failed with KeyError: 'key'")
    assert len(lines) == 2


def test_attributes_of_files_do_not_steer_the_terminal(monkeypatch):
    monkeypatch.setattr(
        "fourcaster.forecast.inspection.inspect",
        lambda *_, **__: {"source": "\x1b]0;title\x07a\x1b[2Jb\u202ec", "list": ["\x9b1m", "x"]},
    )
    done = CliRunner().invoke(app, ["inspect", "x"])
    assert done.stdout == "source: abc\nlist: , x\n"


def test_names_in_progress_do_not_steer_the_terminal(capsys):
    Display().stage("ingest")(0, 1, "to \x1b[31m\u202eabc [bold]")
    assert capsys.readouterr().err == "ingest 0%: to abc [bold]\n"


def run(*words: str, code: str = MAIN, **options):
    environment = os.environ | options.pop("env", {})
    options["preexec_fn"] = lambda: signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # which a background job ignores
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        **options,
    )


def test_a_reader_that_goes_away_ends_the_command_quietly():
    code = "import fourcaster.forecast.doctor as d\n"
    code += "d.doctor = lambda: {str(n): 'x' * 99 for n in range(9999)} | {'problems': []}\n"
    with run("doctor", code=code + MAIN) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == ""


def test_a_full_device_as_output_is_one_line():
    with open("/dev/full", "w") as full:
        code = "import fourcaster.forecast.doctor as d\nd.doctor = lambda: {'problems': []}\n"
        done = subprocess.run(
            [sys.executable, "-c", code + MAIN, "doctor"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no room" in done.stderr


def test_names_that_a_terminal_cannot_show_are_printed_escaped():
    code = "import fourcaster.forecast.doctor as d\n"
    code += "d.doctor = lambda: {'problems': [], 'name': 'caf\\u00e9 \\udc80'}\n"
    with run("doctor", code=code + MAIN, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}) as process:
        printed, errors = process.communicate()
    assert (process.returncode, errors) == (1 if errors else 0, "")
    assert "name: caf\\xe9" in printed


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_signal_is_one_line_and_its_own_exit_code(number, code):
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


def test_what_was_saved_is_printed_with_the_signal(monkeypatch):
    def work(*_, **__):
        with cooperative():
            os.kill(os.getpid(), signal.SIGTERM)
            raise Stopped("epoch 3 is saved in run/state")

    monkeypatch.setattr("fourcaster.forecast.inspection.inspect", work)
    done = CliRunner().invoke(app, ["inspect", "x"])
    assert done.exit_code == 143
    assert done.stderr == "forecast: stopped by SIGTERM; epoch 3 is saved in run/state\n"


def test_handlers_of_signals_are_those_of_before(monkeypatch):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    monkeypatch.setattr("fourcaster.forecast.inspection.inspect", lambda *_, **__: {"kind": "x"})
    assert CliRunner().invoke(app, ["inspect", "x"]).exit_code == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == before
    assert Path(sys.executable).exists()
