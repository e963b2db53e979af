"""Fixture that writes the jobs files of the tests of scheduled forecasts."""

import pytest
import yaml


@pytest.fixture
def write_jobs(tiny_checkpoint, tiny_store, tmp_path):
    """Return a function that writes a jobs file: one job, modified by keywords, and further jobs."""

    def write_jobs_file(*more, top=None, **changes):
        job = {
            "name": "tiny",
            "checkpoint": str(tiny_checkpoint),
            "source": str(tiny_store),
            "cycle": "0 */6 * * *",
            "start": "2001-01-05T00:00",
            "lead": "12h",
            "output": "out/{name}/{cycle:%Y%m%dT%H}.zarr",
            "backoff": "1s",
            "plots": [],
        } | changes
        job = {key: value for key, value in job.items() if value is not None}
        path = tmp_path / "jobs.yaml"
        path.write_text(yaml.safe_dump({"jobs": [job, *more], "poll": "1s"} | (top or {})))
        return path

    return write_jobs_file
