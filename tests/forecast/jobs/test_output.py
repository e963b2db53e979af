"""Output of `prepare` and of hooks is data: bounded, kept apart from the service's own fields, never run,
never in the way.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from jobs_helpers import CYCLES, call, clock, lines

from fourcaster.forecast.jobs import output
from fourcaster.forecast.jobs.commands import bounded, resolve, tell, variables
from fourcaster.forecast.jobs.log import Log
from fourcaster.forecast.jobs.output import LINE, LINES, Reader
from fourcaster.forecast.jobs.reading import load_jobs
from fourcaster.forecast.jobs.results import check_result, read_result
from fourcaster.forecast.jobs.scheduler import Scheduler
from fourcaster.forecast.jobs.shells import refuse_code
from fourcaster.forecast.jobs.spec import Job, moment

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


def read(data, line, pieces=1):
    """Give bytes to a reader and wait until it has read them."""
    end, start = os.pipe()
    reader = Reader(end, line)
    reader.start()
    for piece in [data] * pieces:
        view = memoryview(piece)
        while view:
            view = view[os.write(start, view) :]
    os.close(start)
    reader.join(60)
    assert not reader.is_alive()


def test_lines_of_programs_never_set_what_the_service_says(tmp_path, capsys):
    log = Log(tmp_path / "ledger.sqlite")
    read("\n".join(HOSTILE).encode() + b"\n\xff\xfe", log.of("tiny", CYCLES[0], 3))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [log.path("tiny", CYCLES[0])]
    text = log.path("tiny", CYCLES[0]).read_text()
    records = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert len(records) == len(HOSTILE) + 1 and text.isascii() and "\\u001b" not in text
    for record in records:
        assert (record["job"], record["cycle"], record["attempt"]) == ("tiny", CYCLES[0], 3)
        assert isinstance(record["message"], str) and record["level"] in (
            "info",
            "warning",
            "error",
            "debug",
            "critical",
        )
        assert (
            set(record) <= {"time", "level", "message", "job", "cycle", "attempt", "by", "data"}
            and record["time"][:2] == "20"
        )
    assert records[2]["data"] == {"job": "../../x", "cycle": "../../y"}
    assert capsys.readouterr().err == text


def test_a_line_of_any_length_is_cut_and_the_memory_stays(tmp_path):
    found = []
    size = 64 * 2**20
    read(b"x" * 2**20, found.append, 64)
    (record,) = found
    assert record["message"] == "x" * LINE + f" ... (a line of {size} bytes, cut)"
    found.clear()
    read(b"a\n" + b"y" * (LINE + 1) + b"\r\nb\n", found.append)
    assert [r["message"][:2] for r in found] == ["a", "yy", "b"]


def test_very_many_lines_are_cut_but_for_the_last(tmp_path):
    found = []
    read(b"".join(b"line %d\n" % i for i in range(3 * LINES)), found.append)
    messages = [record["message"] for record in found]
    assert messages[:LINES] == [f"line {i}" for i in range(LINES)]
    assert messages[LINES].startswith(f"the output is cut: {2 * LINES - 20} lines are left out here")
    assert messages[LINES + 1 :] == [f"line {i}" for i in range(3 * LINES - 20, 3 * LINES)]
    found.clear()
    read(b"z" * 4000 + b"\n", found.append, 2000)
    assert sum(len(record["message"]) for record in found) < 2 * output.BYTES


def test_a_record_that_cannot_be_logged_loses_no_other():
    found = []

    def line(record):
        if record["message"] == "bad":
            raise KeyError("nobody thought of this")
        found.append(record["message"])

    read(b"one\nbad\ntwo\n", line)
    assert found == ["one", "a line of output could not be logged: KeyError", "two"]


def test_a_program_that_goes_on_is_not_waited_for_nor_stopped(tmp_path):
    found = []
    end, start = os.pipe()
    reader = Reader(end, lambda record: found.append(record["message"]))
    reader.start()
    os.write(start, b"before\nno end")
    time.sleep(0.2)
    began = time.monotonic()
    reader.end(0.1)
    assert time.monotonic() - began < 2 and found == ["before"]
    for _ in range(100):
        os.write(start, b"x" * 10**5 + b"\n")  # would wait for ever where nobody reads
    os.close(start)
    reader.join(10)
    assert found == ["before"]


def test_prepare_that_writes_what_it_likes_neither_hangs_nor_leads_elsewhere(write, tmp_path):
    script = tmp_path / "prepare.py"
    script.write_text(
        f"import sys\nfor line in {HOSTILE!r}:\n    print(line, flush=True)\n"
        "piece = 'x' * 2**20\nfor _ in range(40):\n    sys.stdout.write(piece)\nsys.exit(75)\n"
    )
    path = write(prepare=[sys.executable, str(script)], start=CYCLES[-1])
    (row,) = Scheduler(path, clock()).run()
    assert row.state == "waiting" and list((tmp_path / "logs").rglob("*.jsonl")) == [
        tmp_path / "logs" / "tiny" / "2001-01-06T0000.jsonl"
    ]
    assert lines(path, "x" * LINE + f" ... (a line of {40 * 2**20} bytes, cut)") == {CYCLES[-1]: 1}
    assert lines(path, "waits for data") == {CYCLES[-1]: 1}
    assert (tmp_path / "logs" / "tiny" / "2001-01-06T0000.jsonl").stat().st_size < 2**20


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
def test_a_result_that_is_none_is_refused(tmp_path, result):
    with pytest.raises((ValueError, AssertionError)):
        check_result(result, JOB, CYCLES[0])
    (tmp_path / "result.json").write_text(json.dumps(result))
    with pytest.raises(ValueError, match="the attempt's result is not understood: "):
        read_result(tmp_path, JOB, CYCLES[0])


def test_a_result_is_read_within_bounds(tmp_path):
    assert check_result(RESULT | {"more": 1}, JOB, CYCLES[0]) == RESULT | {"folder": ""}
    assert check_result({"error": "a\nb\x1b[1m" + "c" * 10**6}, JOB, CYCLES[0])["error"].startswith("a bc")
    file = tmp_path / "result.json"
    for text in ("[" * 10**5, "{", '{"error": "' + "x" * 2**20 + '"}', "\0"):
        file.write_text(text)
        with pytest.raises(ValueError, match="the attempt's result is not understood: "):
            read_result(tmp_path, JOB, CYCLES[0])
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(OSError, match="is a pipe, not a file"):
        read_result(tmp_path, JOB, CYCLES[0])


REFUSED = [
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
    ["sh", "-c", 'echo "$FOURCASTER_ERROR" > told-{name}'],
    ["sh", "-c", "echo {{error}} {state} {output} {cycle:%Y}"],
]


@pytest.mark.parametrize("command", REFUSED)
def test_text_of_others_in_code_is_refused_when_the_file_is_read(write, monkeypatch, command):
    monkeypatch.setenv("SHELL_OF_MINE", "/bin/sh")
    path = write(on_failure=command)
    with pytest.raises(
        ValueError,
        match=r'job tiny: \{error\} in .* could be run as code by .*; write "\$FOURCASTER_ERROR" in place of it',
    ):
        load_jobs(path)
    for key in ("on_success", "prepare"):
        with pytest.raises(ValueError, match="could be run as code"):
            load_jobs(write(**{key: command}))


def test_a_shell_by_another_name_is_known(tmp_path, monkeypatch):
    (tmp_path / "mine").symlink_to("/bin/sh")
    with pytest.raises(ValueError, match="could be run as code"):
        refuse_code([str(tmp_path / "mine"), "-c", "echo {error}"])


@pytest.mark.parametrize("command", ALLOWED)
def test_text_of_others_as_a_word_of_its_own_is_taken(write, command):
    load_jobs(write(on_failure=command))


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
def test_other_templates_are_refused(write, word):
    with pytest.raises(ValueError, match="of a command is not understood"):
        load_jobs(write(on_failure=["notify", word]))


HOSTILE_ERROR = "$(touch run) `touch run`; touch run '\"\0 \x1b[31m\n--option " + "x" * 10**6


def test_a_command_gets_texts_in_variables_and_none_is_run(tmp_path):
    said = []
    command = [
        "sh",
        "-c",
        'printf "%s|" "$FOURCASTER_JOB" "$FOURCASTER_CYCLE" "$FOURCASTER_STATE" "$FOURCASTER_OUTPUT" "$FOURCASTER_ERROR" > told',
    ]
    what = {"state": "failed", "output": "out/x.nc", "error": HOSTILE_ERROR}
    assert tell(
        command, JOB, moment(CYCLES[0]), tmp_path, lambda **line: said.append(line), lambda: False, **what
    )
    told = (tmp_path / "told").read_text().split("|")
    assert not said and told[:4] == ["a", CYCLES[0], "failed", "out/x.nc"]
    assert told[4].startswith("$(touch run) `touch run`; touch run '\"") and 32000 < len(told[4]) < 33000
    assert [p.name for p in tmp_path.iterdir()] == ["told"] and "\x1b" not in told[4]
    assert len(resolve(["{error}"], JOB, moment(CYCLES[0]), error=HOSTILE_ERROR)[0]) < 33000
    assert resolve(["{error}", "a {error}"], JOB, moment(CYCLES[0]), error="--config=x") == [
        "config=x",
        "a --config=x",
    ]
    assert bounded("ü" * 10**6).encode().endswith("ü ...".encode())
    assert variables(JOB, moment(CYCLES[0]))["FOURCASTER_CYCLE"] == CYCLES[0]


def test_a_hook_that_writes_much_fills_neither_disk_nor_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("fourcaster.forecast.jobs.commands._MOST", 2**20)
    monkeypatch.setattr("fourcaster.forecast.jobs.commands._TICK", 0.01)
    sizes = []
    plain = os.fstat
    monkeypatch.setattr(
        "fourcaster.forecast.jobs.commands.os.fstat", lambda fd: sizes.append(plain(fd).st_size) or plain(fd)
    )
    code = "import sys, time\nfor _ in range(100): sys.stdout.write('x' * 2**18); sys.stdout.flush(); time.sleep(0.005)\nsys.exit('the end')"
    said = []
    assert tell(
        [sys.executable, "-c", code],
        JOB,
        moment(CYCLES[0]),
        tmp_path,
        lambda **line: said.append(line["message"]),
        lambda: False,
    )
    assert said[0].endswith("the end") and len(said[0]) < 500 and max(sizes) < 100 * 2**18 / 2


def test_an_error_of_a_remote_reaches_the_hook_of_a_job_as_text(write, tmp_path):
    bad = "$(touch run)`touch run`.zarr"
    path = write(
        source=bad,
        prepare=["true"],
        start=CYCLES[-1],
        deadline="1s",
        on_failure=["sh", "-c", 'echo "$FOURCASTER_ERROR" > told'],
    )
    assert call("run-due", path, "--now", "2001-01-06T06:00:00")[0] in (1, 3)
    time.sleep(1.1)
    assert call("run-due", path, "--now", "2001-01-06T06:10")[0] == 1
    assert (
        "$(touch run)`touch run`.zarr" in (tmp_path / "told").read_text()
        and not Path(tmp_path / "run").exists()
    )
    assert threading.active_count() < 50
