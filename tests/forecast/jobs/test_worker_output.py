"""Output of ``prepare`` and hooks is data: bounded, separate from service fields and never executed."""

import json
import os
import sys
import threading
import time

import pytest
from jobs_helpers import CYCLES, call, clock, count_lines

from fourcaster.forecast.jobs import worker_output
from fourcaster.forecast.jobs.commands import HookEvent, hook_environment, resolve, run_hook, shorten
from fourcaster.forecast.jobs.load import load_jobs
from fourcaster.forecast.jobs.log import Log
from fourcaster.forecast.jobs.manifests import Manifest
from fourcaster.forecast.jobs.results import ErrorResult, ForecastResult, parse_result, read_result
from fourcaster.forecast.jobs.scheduler import Scheduler
from fourcaster.forecast.jobs.shells import refuse_code
from fourcaster.forecast.jobs.spec import Job
from fourcaster.forecast.jobs.states import CycleState
from fourcaster.forecast.jobs.times import parse_time
from fourcaster.forecast.jobs.worker_output import LINE_BYTES, MOST_LINES, OutputReader

HOSTILE = [
    '{"cycle": 2001020100}',
    '{"job": "../../x"}',
    '{"job": "../../x", "cycle": "../../y", "message": "m"}',
    '{"message": "m", "cycle": null, "attempt": [], "time": {}}',
    '{"message": {"deep": 1}, "level": ["x"]}',
    '{"message": "m", "level": "<b>"}',
    '{"message": "m", "values": NaN, "more": Infinity}',
    '{"message": "m", "number": ' + "9" * 4000 + "}",
    '{"message": "m", "a": ' + "[" * 3000 + "]" * 3000 + "}",
    "[" * 8000,
    '{"message": "m", "self": {"self": 1}, "values": 1, "more": 2}',
    "\x1b[2J\x1b]0;title\x07 text",
    "\0\0\0",
    '"text"',
    "null",
]


def read(data, handle_line, repeat=1):
    """Write bytes to a pipe and wait until a reader has handled their lines."""
    read_end, write_end = os.pipe()
    reader = OutputReader(read_end, handle_line)
    reader.start()
    for _ in range(repeat):
        view = memoryview(data)
        while view:
            view = view[os.write(write_end, view) :]
    os.close(write_end)
    reader.join(60)
    assert not reader.is_alive()


def test_program_output_never_sets_service_fields(tmp_path, capsys):
    log = Log(tmp_path / "ledger.sqlite")
    read("\n".join(HOSTILE).encode() + b"\n\xff\xfe", log.for_cycle("tiny", CYCLES[0], 3))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [log.path("tiny", CYCLES[0])]
    text = log.path("tiny", CYCLES[0]).read_text()
    records = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert len(records) == len(HOSTILE) + 1
    assert text.isascii()
    assert "\\u001b" not in text
    for record in records:
        assert (record["job"], record["cycle"], record["attempt"]) == ("tiny", CYCLES[0], 3)
        assert isinstance(record["message"], str)
        assert record["level"] in ("info", "warning", "error", "debug", "critical")
        assert set(record) <= {"time", "level", "message", "job", "cycle", "attempt", "by", "data"}
        assert record["time"][:2] == "20"
    assert records[2]["data"] == {"job": "../../x", "cycle": "../../y"}
    assert capsys.readouterr().err == text


def test_long_lines_are_truncated():
    records = []
    size = 64 * 2**20
    read(b"x" * 2**20, records.append, repeat=64)
    (record,) = records
    assert record["message"] == "x" * LINE_BYTES + f" ... (a line of {size} bytes, cut)"
    records.clear()
    read(b"a\n" + b"y" * (LINE_BYTES + 1) + b"\r\nb\n", records.append)
    assert [record["message"][:2] for record in records] == ["a", "yy", "b"]


def test_long_output_is_truncated_except_for_its_last_lines():
    records = []
    read(b"".join(b"line %d\n" % i for i in range(3 * MOST_LINES)), records.append)
    messages = [record["message"] for record in records]
    assert messages[:MOST_LINES] == [f"line {i}" for i in range(MOST_LINES)]
    omitted = 2 * MOST_LINES - 20
    assert messages[MOST_LINES].startswith(f"the output is cut: {omitted} lines are left out here")
    assert messages[MOST_LINES + 1 :] == [f"line {i}" for i in range(3 * MOST_LINES - 20, 3 * MOST_LINES)]
    records.clear()
    read(b"z" * 4000 + b"\n", records.append, repeat=2000)
    assert sum(len(record["message"]) for record in records) < 2 * worker_output.MOST_BYTES


def test_unloggable_record_does_not_lose_others():
    messages = []

    def handle(record):
        if record["message"] == "bad":
            raise KeyError("unexpected")
        messages.append(record["message"])

    read(b"one\nbad\ntwo\n", handle)
    assert messages == ["one", "a line of output could not be logged: KeyError", "two"]


def test_program_that_outlives_its_attempt_is_neither_awaited_nor_killed():
    messages = []
    read_end, write_end = os.pipe()
    reader = OutputReader(read_end, lambda record: messages.append(record["message"]))
    reader.start()
    os.write(write_end, b"before\nno end")
    time.sleep(0.2)
    started = time.monotonic()
    reader.end(0.1)
    assert time.monotonic() - started < 2
    assert messages == ["before"]
    for _ in range(100):
        os.write(write_end, b"x" * 10**5 + b"\n")  # would block for ever without a reader
    os.close(write_end)
    reader.join(10)
    assert messages == ["before"]


def test_hostile_output_of_prepare_neither_blocks_nor_escapes_its_log(write_jobs, tmp_path):
    script = tmp_path / "prepare.py"
    script.write_text(
        f"import sys\nfor line in {HOSTILE!r}:\n    print(line, flush=True)\n"
        "piece = 'x' * 2**20\nfor _ in range(40):\n    sys.stdout.write(piece)\nsys.exit(75)\n"
    )
    path = write_jobs(prepare=[sys.executable, str(script)], start=CYCLES[-1])
    (record,) = Scheduler(path, clock()).run()
    assert record.state is CycleState.WAITING
    log = tmp_path / "logs" / "tiny" / "2001-01-06T0000.jsonl"
    assert list((tmp_path / "logs").rglob("*.jsonl")) == [log]
    cut = "x" * LINE_BYTES + f" ... (a line of {40 * 2**20} bytes, cut)"
    assert count_lines(path, cut) == {CYCLES[-1]: 1}
    assert count_lines(path, "waits for data") == {CYCLES[-1]: 1}
    assert log.stat().st_size < 2**20


JOB = Job(name="a", checkpoint="c", source="s", cycle="0 */6 * * *", lead="1d", output="{cycle:%Y}.nc")
MANIFEST = {"job": "a", "cycle": CYCLES[0], "checksum": "0" * 64}
RESULT = {"manifest": MANIFEST, "made": "forecast.nc", "beside": ["t2m_12h.png"]}


@pytest.mark.parametrize(
    "result",
    [
        [],
        "done",
        {},
        {"waits": 3},
        {"error": ["x"]},
        {"scores": {}},
        {"scores": "[]"},
        RESULT | {"manifest": MANIFEST | {"job": "b"}},
        RESULT | {"manifest": MANIFEST | {"cycle": CYCLES[1]}},
        RESULT | {"manifest": MANIFEST | {"checksum": 1}},
        RESULT | {"manifest": MANIFEST | {"more": "x" * 10**5}},
        RESULT | {"made": "../../elsewhere.nc"},
        RESULT | {"beside": ["../x.png"]},
        RESULT | {"beside": ["x.nc"]},
        RESULT | {"beside": [1]},
        RESULT | {"beside": "x.png"},
        RESULT | {"folder": "../x"},
    ],
)
def test_invalid_result_is_rejected(tmp_path, result):
    with pytest.raises(ValueError, match=r"\w"):
        parse_result(result, JOB, CYCLES[0])
    (tmp_path / "result.json").write_text(json.dumps(result))
    with pytest.raises(ValueError, match="the attempt's result is not understood: "):
        read_result(tmp_path, JOB, CYCLES[0])


def test_result_is_read_within_limits(tmp_path):
    expected = ForecastResult(Manifest(MANIFEST), "forecast.nc", ["t2m_12h.png"])
    assert parse_result(RESULT | {"more": 1}, JOB, CYCLES[0]) == expected
    assert expected.to_dict() == RESULT | {"folder": ""}
    error = parse_result({"error": "a\nb\x1b[1m" + "c" * 10**6}, JOB, CYCLES[0])
    assert isinstance(error, ErrorResult)
    assert error.text.startswith("a bc")
    file = tmp_path / "result.json"
    for text in ("[" * 10**5, "{", '{"error": "' + "x" * 2**20 + '"}', "\0"):
        file.write_text(text)
        with pytest.raises(ValueError, match="the attempt's result is not understood: "):
            read_result(tmp_path, JOB, CYCLES[0])
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(OSError, match="is a pipe, not a file"):
        read_result(tmp_path, JOB, CYCLES[0])


REJECTED = [
    ["sh", "-c", "echo {error}"],
    ["sh", "-c", "echo '{state}: {error}' > failed"],
    ["/bin/bash", "-ec", "notify '{error}'"],
    ["dash", "-c", 'echo "$1"', "sh", "{error}"],
    ["zsh", "-c", "{error}"],
    ["ksh", "-xc", "echo {error!r}"],
    ["env", "A=1", "sh", "-c", "echo {error}"],
    ["/usr/bin/env", "-S", "sh -c 'echo {error}'"],
    ["nice", "-n", "5", "bash", "-c", "echo {error}"],
    ["sudo", "-u", "me", "sh", "-c", "echo {error}"],
    ["timeout", "5", "bash", "--norc", "-c", "echo {error}"],
    ["python", "-c", "print('{error}')"],
    ["/usr/bin/python3.12", "-Ic", "print('{error}')"],
    ["perl", "-e", "print '{error}'"],
    ["perl", "-ne", "print '{error}'"],
    ["ruby", "-e", "puts '{error}'"],
    ["node", "--eval", "console.log('{error}')"],
    ["php", "-r", "echo '{error}';"],
    ["ssh", "host", "notify", "{error}"],
    ["sshpass", "-p", "x", "ssh", "host", "echo {error}"],
    ["su", "-c", "echo {error}", "me"],
    ["awk", 'BEGIN {{ print "{error}" }}'],
    ["sed", "s/x/{error}/"],
    ["find", ".", "-exec", "sh", "-c", "echo {error}", ";"],
    ["xargs", "-I", "X", "echo", "{error}"],
    ["{error}"],
    ["unknown", "-c", "{error}"],
    ["busybox", "sh", "-c", "echo {error}"],
    ["docker", "run", "x", "sh", "-c", "echo {error}"],
    ["sh", "{error}"],
    ["pwsh", "-Command", "echo {error}"],
    ["${SHELL_OF_MINE}", "-c", "echo {error}"],
    ["psql", "-c", "INSERT INTO errors VALUES ('{error}')"],
]
ALLOWED = [
    ["mail", "-s", "{name} {cycle:%d.%m. %H} UTC: {error}", "forecaster"],
    ["notify", "{error}"],
    ["notify", "--text={error}", "--job", "{name}"],
    ["sh", "notify.sh", "{error}"],
    ["python3", "notify.py", "--text", "{error}"],
    ["sh", "-c", 'echo "$FOURCASTER_ERROR" > error-{name}'],
    ["sh", "-c", "echo {{error}} {state} {output} {cycle:%Y}"],
]


@pytest.mark.parametrize("command", REJECTED)
def test_error_placeholder_in_code_is_rejected_on_loading(write_jobs, monkeypatch, command):
    monkeypatch.setenv("SHELL_OF_MINE", "/bin/sh")
    path = write_jobs(on_failure=command)
    with pytest.raises(
        ValueError,
        match=r"job tiny: \{error\} in .* could be run as code by .*; "
        r'write "\$FOURCASTER_ERROR" in place of it',
    ):
        load_jobs(path)
    for key in ("on_success", "prepare"):
        with pytest.raises(ValueError, match="could be run as code"):
            load_jobs(write_jobs(**{key: command}))


def test_shell_behind_a_symlink_is_recognised(tmp_path, monkeypatch):
    (tmp_path / "mine").symlink_to("/bin/sh")
    with pytest.raises(ValueError, match="could be run as code"):
        refuse_code([str(tmp_path / "mine"), "-c", "echo {error}"])


@pytest.mark.parametrize("command", ALLOWED)
def test_error_placeholder_as_a_separate_argument_is_accepted(write_jobs, command):
    load_jobs(write_jobs(on_failure=command))


@pytest.mark.parametrize(
    "word",
    [
        "{error.__class__}",
        "{cycle.year}",
        "{name:>1000000000}",
        "{error:{name}}",
        "{0}",
        "{}",
        "{error[0]}",
        "{name!r:9}",
    ],
)
def test_invalid_templates_are_rejected(write_jobs, word):
    with pytest.raises(ValueError, match="of a command is not understood"):
        load_jobs(write_jobs(on_failure=["notify", word]))


HOSTILE_ERROR = "$(touch run) `touch run`; touch run '\"\0 \x1b[31m\n--option " + "x" * 10**6


def test_hook_receives_text_in_variables_and_never_runs_it(tmp_path):
    messages = []
    names = ("JOB", "CYCLE", "STATE", "OUTPUT", "ERROR")
    variables = " ".join(f'"$FOURCASTER_{name}"' for name in names)
    command = ["sh", "-c", f'printf "%s|" {variables} > received']
    cycle = parse_time(CYCLES[0])
    assert run_hook(
        command,
        JOB,
        cycle,
        event=HookEvent("failed", "out/x.nc", HOSTILE_ERROR),
        folder=tmp_path,
        log=lambda **line: messages.append(line),
        stopping=lambda: False,
    )
    received = (tmp_path / "received").read_text().split("|")
    assert not messages
    assert received[:4] == ["a", CYCLES[0], "failed", "out/x.nc"]
    assert received[4].startswith("$(touch run) `touch run`; touch run '\"")
    assert 32000 < len(received[4]) < 33000
    assert [p.name for p in tmp_path.iterdir()] == ["received"]
    assert "\x1b" not in received[4]
    assert len(resolve(["{error}"], JOB, cycle, event=HookEvent(error=HOSTILE_ERROR))[0]) < 33000
    args = resolve(["{error}", "a {error}"], JOB, cycle, event=HookEvent(error="--config=x"))
    assert args == ["config=x", "a --config=x"]
    assert shorten("ü" * 10**6).encode().endswith("ü ...".encode())
    assert hook_environment(JOB, cycle)["FOURCASTER_CYCLE"] == CYCLES[0]


def test_verbose_hook_fills_neither_disk_nor_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("fourcaster.forecast.jobs.commands._LARGEST_OUTPUT", 2**20)
    monkeypatch.setattr("fourcaster.forecast.jobs.commands._POLL_INTERVAL", 0.01)
    sizes = []
    fstat = os.fstat

    def record_size(descriptor):
        sizes.append(fstat(descriptor).st_size)
        return fstat(descriptor)

    monkeypatch.setattr("fourcaster.forecast.jobs.commands.os.fstat", record_size)
    code = (
        "import sys, time\n"
        "for _ in range(100): sys.stdout.write('x' * 2**18); sys.stdout.flush(); time.sleep(0.005)\n"
        "sys.exit('the end')"
    )
    messages = []
    assert run_hook(
        [sys.executable, "-c", code],
        JOB,
        parse_time(CYCLES[0]),
        event=HookEvent(),
        folder=tmp_path,
        log=lambda **line: messages.append(line["message"]),
        stopping=lambda: False,
    )
    assert messages[0].endswith("the end")
    assert len(messages[0]) < 500
    assert max(sizes) < 100 * 2**18 / 2


def test_remote_error_reaches_the_hook_as_text(write_jobs, tmp_path):
    name = "$(touch run)`touch run`.zarr"
    path = write_jobs(
        source=name,
        prepare=["true"],
        start=CYCLES[-1],
        deadline="4min",  # an attempt on a slow machine stays below it
        on_failure=["sh", "-c", 'echo "$FOURCASTER_ERROR" > received'],
    )
    for minute in range(10, 60, 5):  # until the data are late
        code, _ = call("run-due", path, "--now", f"2001-01-06T06:{minute}")
        if code == 1:
            break
        time.sleep(1.1)
    assert code == 1
    assert name in (tmp_path / "received").read_text()
    assert not (tmp_path / "run").exists()
    assert threading.active_count() < 50
