"""The jobs file: validation, due cycles and command templates."""

from datetime import datetime

import pytest
import torch
import yaml
from jobs_helpers import NOW, call

from fourcaster.forecast.jobs.commands import resolve
from fourcaster.forecast.jobs.load import load_jobs
from fourcaster.forecast.jobs.masking import mask
from fourcaster.forecast.jobs.spec import Job


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cycel": "0 0 * * *"}, "job tiny: .*unknown key; did you mean cycle"),
        ({"cycle": "0 25 * * *"}, "no cron expression"),
        ({"checkpoint": "nowhere"}, "there is no checkpoint nowhere"),
        ({"source": "nowhere.zarr"}, "there is no source nowhere.zarr"),
        ({"name": "../up"}, "name: String should match"),
        ({"output": "../{cycle:%Y%m%dT%H}.zarr"}, "contains '..'"),
        ({"output": "/tmp/{cycle:%Y}.zarr"}, "leads out of the folder"),
        ({"output": "out.zarr"}, "lacks {cycle}"),
        ({"output": "{cycle.__class__}/{cycle:%Y}.zarr"}, "names {cycle.__class__}"),
        ({"output": "{cycle:%Y/../%m}.zarr"}, "without slashes"),
        ({"output": "{cycle:%Y%m%d}.zarr"}, "2000-01-01T00:00 and 2000-01-01T06:00 would be one output"),
        ({"output": "{cycle:%m%dT%H}.zarr"}, "2000-01-01T00:00 and 2001-01-01T00:00 would be one output"),
        ({"output": "{cycle:%Y}.grib"}, "must end in .zarr or .nc"),
        ({"lead": "soon"}, "is not a duration"),
        ({"start": "yesterday"}, "yesterday is not a time"),
        (
            {"prepare": ["get", "${NO_SUCH_VARIABLE}"]},
            "NO_SUCH_VARIABLE.*neither a name nor in the environment",
        ),
        ({"lead": None}, "lead: Field required"),
        ({"truth": "store.zarr", "area": "55/205/35/250"}, "leave out grid and area"),
        ({"truth": "s3://bucket/store.zarr"}, "truth s3://bucket/store.zarr is a URL"),
        ({"report": True}, "a report needs truth"),
        pytest.param(
            {"device": "cuda"},
            "device cuda was requested",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        ({"lead": "7h"}, "job tiny: lead 7h is not a positive multiple of the model's step of 6 h"),
        ({"variables": ["t2n"]}, "the model has no 't2n'; did you mean t2m"),
        ({"area": "5/0/-5/1"}, "area 5/0/-5/1"),
        ({"grid": 100}, "grid spacing must lie between"),
        ({"grid": "fine"}, "is not understood"),
        ({"seed": 3}, "seed has no effect on a single forecast"),
        ({"members": 3, "seed": -1}, "seed"),
        ({"members": 3, "amplitude": 0}, "amplitude"),
        ({"clip": {"tm2": [0, None]}}, "clip: the model has no variable 'tm2'; did you mean t2m"),
        ({"clip": {"t2m": [3, 1]}}, "the bounds of t2m must be in order"),
        (
            {"plots": [{"variable": "t2m", "lead": "18h"}]},
            "lead 18h is none of the forecast's, which go to 12h in steps of 6 h",
        ),
        ({"plots": [{"variable": "t2m", "lead": "12h", "level": 500}]}, "t2m has no levels, got level 500"),
        ({"plots": [{"variable": "t2m", "lead": "12h"}], "variables": ["u10"]}, "the forecast has no 't2m'"),
        ({"cycle": "0 0 0 * * *"}, "Wrong number of fields"),
        ({"cycle": "0 * * * *", "output": "{cycle:%Y%d%H}.zarr"}, "would be one output"),
        ({"deadline": "0s"}, "deadline: should be 1 s at least"),
    ],
)
def test_invalid_jobs_file_is_rejected(write_jobs, changes, message, tmp_path):
    path = write_jobs(**changes)
    with pytest.raises(ValueError, match=message):
        load_jobs(path)
    code, output = call("run-due", path, "--now", NOW)
    assert code == 2
    assert len(output.splitlines()) == 1
    assert not (tmp_path / "ledger.sqlite").exists()


def test_jobs_that_share_a_name_or_folder_are_rejected(write_jobs, tmp_path):
    first = yaml.safe_load(write_jobs().read_text())["jobs"][0]
    with pytest.raises(ValueError, match="two jobs are called 'tiny'"):
        load_jobs(write_jobs(first))
    with pytest.raises(ValueError, match="two jobs write to out"):
        load_jobs(
            write_jobs(
                first | {"name": "b", "output": "out/{cycle:%Y%m%dT%H}.zarr"},
                output="out/{cycle:%Y%m%dT%H}.zarr",
            )
        )
    (tmp_path / "out").mkdir()
    (tmp_path / "alias").symlink_to("out")
    with pytest.raises(ValueError, match=r"jobs (b and tiny|tiny and b) write to one folder"):
        load_jobs(
            write_jobs(
                first | {"name": "b", "output": "alias/{cycle:%Y%m%dT%H}.zarr"},
                output="out/{cycle:%Y%m%dT%H}.zarr",
            )
        )
    with pytest.raises(ValueError, match="contains no list of jobs"):
        load_jobs(write_jobs(top={"jobs": {}}))
    with pytest.raises(ValueError, match="defaults: should contain keys of a job"):
        load_jobs(write_jobs(top={"defaults": ["lead"]}))
    path = write_jobs()
    path.write_text(path.read_text() + "poll: 5s\n")
    with pytest.raises(ValueError, match="'poll' is given twice, line 1 and below"):
        load_jobs(path)


def make_job(**changes):
    return Job(
        **{
            "name": "a",
            "checkpoint": "c",
            "source": "s",
            "cycle": "0 */6 * * *",
            "lead": "1d",
            "output": "{cycle:%Y}.nc",
        }
        | changes
    )


def test_cycles_are_due_after_their_delay_and_the_start_time():
    now = datetime(2001, 1, 6, 0, 30)
    seen = datetime(2001, 1, 5, 7)
    assert [c.hour for c in make_job().due_cycles(now, seen)] == [12, 18, 0]
    assert [c.hour for c in make_job(delay="1h").due_cycles(now, seen)] == [12, 18]
    assert [c.hour for c in make_job(catch_up="newest", max_catchup=2).due_cycles(now, seen)] == [0, 18]
    days = [c.day for c in make_job(start="2001-01-01", max_catchup=10**6).due_cycles(now, seen)]
    assert days == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4 + [6]
    assert make_job().due_cycles(datetime(2001, 1, 6), seen)[-1] == datetime(2001, 1, 6)  # on the minute
    assert make_job(delay="2h").next_due(now) == datetime(2001, 1, 6, 2)
    assert make_job(start="2002-01-01").next_due(now) == datetime(2002, 1, 1)


def test_command_templates_are_filled_and_secrets_masked(monkeypatch):
    monkeypatch.setenv("STORE_TOKEN", "s3cr3t-{x}")
    cycle = datetime(2001, 1, 2, 6)
    args = ["get", "{name}/{cycle:%H}", "${STORE_TOKEN}"]
    assert resolve(args, make_job(), cycle) == ["get", "a/06", "s3cr3t-{x}"]
    assert mask("with s3cr3t-{x} and https://me:pw@host/x") == "with *** and https://***@host/x"
    assert resolve(["awk", "{{print $1}}"], make_job(), cycle)[1] == "{print $1}"
    with pytest.raises(
        ValueError,
        match="nobody is neither a name nor in the environment; braces that are meant are written twice",
    ):
        resolve(["{nobody}"], make_job(), cycle)
