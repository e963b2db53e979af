"""The jobs file that the tests of jobs change."""

import pytest
import yaml


@pytest.fixture
def write(tiny_checkpoint, tiny_store, tmp_path):
    """Return what writes a jobs file of one job."""

    def make(*more, top=None, **changes):
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
        path = tmp_path / "jobs.yaml"
        path.write_text(
            yaml.safe_dump(
                {"jobs": [{k: v for k, v in job.items() if v is not None}, *more], "poll": "1s"} | (top or {})
            )
        )
        return path

    return make
