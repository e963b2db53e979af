"""Invalid jobs files of all kinds are rejected in one line, quickly and in little memory."""

import os
import time
from datetime import datetime

import pytest
from jobs_helpers import NOW, call

from fourcaster.forecast.jobs.load import load_jobs

INVALID_YAML = {
    "deep lists": b"[" * 10**5,
    "deep mappings": b"".join(b" " * i + b"a:\n" for i in range(500)),
    "aliases": b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(
        b"%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n" % (i, i, *[i - 1] * 9)
        for i in range(98, 115)
    )
    + b"jobs: [*r]\n",
    "merged aliases": b"jobs: [{name: &a [x,x,x,x,x,x,x,x], lead: &b [*a,*a,*a,*a,*a,*a,*a,*a], "
    b"grid: &c [*b,*b,*b,*b,*b,*b,*b,*b], area: &d [*c,*c,*c,*c,*c,*c,*c,*c], "
    b"seed: &e [*d,*d,*d,*d,*d,*d,*d,*d], keep: [*e,*e,*e,*e,*e,*e,*e,*e]}]",
    "self-reference": b"jobs: &a [*a]",
    "self-reference in a job": b"jobs: [&a {name: *a}]",
    "invalid date": b"jobs: [{start: 2001-13-45}]",
    "too many digits": b"jobs: [{keep: " + b"9" * 5000 + b"}]",
    "tag": b"jobs: [!!python/object/apply:os.system [id]]",
    "not UTF-8": b"jobs: [\xff\xfe]",
    "escaped null": b'jobs: ["a\\0b"]',
    "null byte": b"jobs: [a\0b]",
    "list as key": b"jobs: [{[a]: b}]",
    "mapping as key": b"? {a: b}\n: c\njobs: []",
    "undefined alias": b"jobs: [*nobody]",
    "two documents": b"jobs: []\n---\njobs: []",
    "too large": b"# " + b"x" * 2**21,
    "empty": b"",
    "string": b"jobs",
    "jobs of strings": b"jobs: [a, b]",
    "jobs of numbers": b"jobs: [1]",
    "null job": b"jobs: [null]",
    "empty list of jobs": b"jobs: []",
    "numbers as keys": b"jobs: [{1: 2}]\n",
    "defaults": b"jobs: [{}]\ndefaults: [1]",
    "merge": b"jobs: [{<<: 3}]",
    "binary": b"jobs: [{name: !!binary aGVsbG8=}]",
    "set": b"jobs: !!set {a, b}",
    "timestamp": b"jobs: [{name: 2001-01-01}]",
    "infinite": b"jobs: [{keep: .inf, retries: .nan}]",
}


@pytest.mark.parametrize("kind", INVALID_YAML)
def test_invalid_yaml_is_rejected_in_one_line(tmp_path, kind):
    path = tmp_path / "jobs.yaml"
    path.write_bytes(INVALID_YAML[kind])
    started = time.monotonic()
    code, output = call("status", path)
    assert code == 2, output
    assert len(output.splitlines()) == 1
    assert len(output) < 1500
    assert "jobs.yaml" in output
    assert time.monotonic() - started < 10
    assert [p.name for p in tmp_path.iterdir()] == ["jobs.yaml"]


@pytest.mark.parametrize(
    "create", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path), lambda path: None]
)
def test_jobs_file_that_is_not_a_regular_file_is_rejected(tmp_path, create):
    create(tmp_path / "jobs.yaml")
    code, output = call("status", tmp_path / "jobs.yaml")
    assert code == 2
    assert len(output.splitlines()) == 1
    assert "not a jobs file" in output or "does not exist" in output


OUT_OF_RANGE = [
    ({"keep": 1e30}, "keep: "),
    ({"keep": 10**40}, "keep: "),
    ({"keep": -1}, "keep: "),
    ({"max_catchup": 1e12}, "max_catchup: "),
    ({"retries": 10**9}, "retries: "),
    ({"members": 10**9}, "members: "),
    ({"seed": 2**80, "members": 2}, "seed: "),
    ({"amplitude": float("inf"), "members": 2}, "amplitude: "),
    ({"amplitude": float("nan"), "members": 2}, "amplitude: "),
    ({"grid": float("nan")}, "grid"),
    ({"lead": "999999999999h"}, "years"),
    ({"lead": "1e12h"}, "is not a duration"),
    ({"lead": "9" * 400 + "d"}, "years"),
    ({"lead": "36000d"}, "more than 100000 steps"),
    ({"delay": "9" * 30 + "d"}, "years"),
    ({"delay": "99999999d"}, "years"),
    ({"backoff": "99999999d"}, "years"),
    ({"deadline": "99999999d"}, "years"),
    ({"deadline": "-1h"}, "is not a duration"),
    ({"deadline": float("nan")}, "is not a duration"),
    ({"top": {"workers": 10**9}}, "workers: "),
    ({"top": {"workers": 1e300}}, "workers: "),
    ({"top": {"lease": "9" * 30 + "d"}}, "years"),
    ({"top": {"poll": "99999999d"}}, "years"),
    ({"top": {"engine": "dask", "cluster": {"queue": "local", "jobs": 10**9}}}, "jobs: "),
    ({"cycle": "0 0 30 2 *"}, "no cron expression"),
    ({"cycle": "0 0 31 4 *"}, "no cron expression"),
    ({"cycle": "0 0 */15 2 1#5"}, "no such day ever comes"),
    ({"cycle": "0 0 1 1 * " + "*" * 10**5}, "no cron expression"),
    ({"cycle": "99999999999999999999 0 * * *"}, "no cron expression"),
    ({"start": "0001-01-01"}, "between the years"),
    ({"start": "9999-12-31T23:59"}, "between the years"),
    ({"start": "9999-12-31T23:59-12:00"}, "between the years"),
    ({"start": "NaT"}, "is not a time"),
    ({"name": "x" * 10**5}, "name: "),
    ({"name": "x\n"}, "name: "),
    ({"output": "out/" + "x" * 300 + "{cycle:%Y%m%dT%H}.zarr"}, "longer than 200 bytes"),
    ({"output": "{name:>1000000000}{cycle:%Y%m%dT%H}.zarr"}, "has a form for {name}"),
    ({"checkpoint": "x" * 10**4}, "job tiny: "),
    ({"source": "x" * 10**4}, "job tiny: "),
    ({"source": "a\0b"}, "null character"),
    ({"prepare": ["a\0b"]}, "null character"),
    ({"prepare": []}, "prepare: "),
    ({"clip": {"t2m": [float("nan"), 1]}}, "clip|bounds"),
]


@pytest.mark.parametrize(("changes", "message"), OUT_OF_RANGE)
def test_out_of_range_values_are_rejected_in_one_line(write_jobs, tmp_path, changes, message):
    path = write_jobs(**{"start": "2001-01-06"} | changes)
    started = time.monotonic()
    code, output = call("run-due", path, "--now", NOW)
    assert code == 2, output
    assert len(output.splitlines()) == 1
    assert any(part in output for part in message.split("|")), output
    assert len(output) < 1000
    assert time.monotonic() - started < 10
    assert not (tmp_path / "ledger.sqlite").exists()


def test_largest_valid_values_are_accepted(write_jobs):
    path = write_jobs(
        start="1700-01-01",
        delay="100d",
        deadline="36500d",
        keep=10**6,
        retries=10_000,
        backoff="36500d",
        max_catchup=1,
        prepare=["true"],
        source="none.zarr",
        top={"workers": 1000, "lease": "36500d", "poll": "1d"},
    )
    job = load_jobs(path).jobs[0]
    assert job.due_cycles(datetime(2199, 12, 31), datetime(2000, 1, 1)) == [datetime(2199, 9, 22, 0)]
    assert job.next_due(datetime(2199, 12, 31)).year == 2199
    assert job.next_due(datetime(1700, 1, 1)).year == 1700
    for args in (("--now", "1700-01-01"), ("--now", "2199-12-31T23:59")):
        assert call("status", path, *args)[0] == 0


@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01",
        "9999-12-31",
        "9999-12-31T23:59+00:01",
        "soon",
        "NaT",
        "",
        "2001-01-01T00:00\x1b[2J",
        "1e400",
    ],
)
def test_invalid_times_in_options_are_rejected(write_jobs, time):
    path = write_jobs(start="2001-02-01")
    for args in (
        ("status", path, "--now", time),
        ("run", path, "tiny", "--cycle", time),
        ("backfill", path, "tiny", "--from", time, "--to", NOW),
    ):
        code, output = call(*args)
        assert code == 2
        assert len(output.splitlines()) == 1


def test_backfill_of_centuries_is_rejected(write_jobs):
    path = write_jobs(cycle="* * * * *", output="{cycle:%Y%m%dT%H%M}.zarr", start="2001-02-01")
    code, output = call("backfill", path, "tiny", "--from", "1700-01-01", "--to", "2199-01-01")
    assert code == 2
    assert "there are more than 100000 cycles" in output
