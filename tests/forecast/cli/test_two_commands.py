"""Concurrent commands with one output: one complete result, and an error that names the other process."""

import json
import multiprocessing
import socket
from pathlib import Path

import pytest
import xarray as xr
from helpers import make_source


@pytest.fixture(params=[3, pytest.param(10, marks=pytest.mark.slow)])
def repetitions(request):
    """Return how often each race is repeated."""
    return request.param


def run_received_commands(connection, barrier):
    """Run received commands, each as soon as the other process is ready too."""
    from typer.testing import CliRunner

    from fourcaster.forecast.cli.main import app

    while (args := connection.recv()) is not None:
        barrier.wait()
        result = CliRunner().invoke(app, args)
        connection.send((result.exit_code, result.output))


@pytest.fixture(scope="module")
def run_both():
    """Return a function that runs two commands concurrently and returns their exit codes and outputs."""
    context = multiprocessing.get_context("spawn")
    barrier, connections, processes = context.Barrier(2), [], []
    for _ in range(2):
        ours, theirs = context.Pipe()
        process = context.Process(target=run_received_commands, args=(theirs, barrier))
        process.start()
        connections.append(ours)
        processes.append(process)

    def run(*commands):
        for connection, args in zip(connections, commands, strict=True):
            connection.send([str(arg) for arg in args])
        assert all(connection.poll(120) for connection in connections)
        return [connection.recv() for connection in connections]

    yield run
    for connection, process in zip(connections, processes, strict=True):
        connection.send(None)
        process.join(30)
        process.kill()


def dataset(path):
    """Return the content of a data set without its history."""
    opened = xr.open_dataset(
        path, engine=None if path.suffix == ".nc" else "zarr", decode_times=False, decode_timedelta=False
    )
    with opened as opened:
        values = {str(name): (v.dims, v.values.tobytes()) for name, v in opened.variables.items()}
        return values, {k: str(v) for k, v in opened.attrs.items() if k != "history"}


def assert_one_complete_output(
    run_both, repetitions, output, first, second, content=dataset, *, overwrite=True
):
    """Race two commands; check that every outcome is complete and equals that of either command alone."""
    expected = []
    for command in (first, second):
        (code, text), _ = run_both(command, ("--help",))
        assert code == 0, text
        expected.append(content(output))
        remove(output)
    assert expected[0] != expected[1] or not overwrite
    refusals = 0
    for _ in range(repetitions):
        results = run_both(first, second)
        assert 0 in [code for code, _ in results], results
        for code, text in results:
            if code:
                line = text.strip().splitlines()[-1]
                assert code == 2 and line.startswith("forecast: ")
                assert (
                    "is being written by process" in text and socket.gethostname() in text
                ) or "exists" in text, text
                refusals += 1
        assert content(output) in expected
        assert [p.name for p in output.parent.iterdir() if p.name.startswith(f".{output.name}")] == []
        if not overwrite:
            remove(output)
    return refusals


def remove(path):
    from fourcaster.datasets.store import atomic

    atomic.remove(path)


def test_concurrent_runs_leave_one_complete_forecast(
    run_both, repetitions, tiny_checkpoint, tiny_store, tmp_path
):
    out = tmp_path / "f.zarr"
    run = ("run", tiny_checkpoint, "--init", tiny_store, "--overwrite", "-o", out)
    assert (
        assert_one_complete_output(
            run_both,
            repetitions,
            out,
            (*run, "--lead", "48h", "--variables", "t2m"),
            (*run, "--lead", "60h", "--variables", "u10"),
        )
        or repetitions < 10
    )


def test_concurrent_runs_leave_one_complete_netcdf_file(
    run_both, repetitions, tiny_checkpoint, tiny_store, tmp_path
):
    out = tmp_path / "f.nc"
    run = ("run", tiny_checkpoint, "--init", tiny_store, "--overwrite", "-o", out)
    assert_one_complete_output(
        run_both, repetitions, out, (*run, "--lead", "48h"), (*run, "--lead", "48h", "--time", "2001-01-20")
    )


def test_concurrent_ingestions_leave_one_complete_store(run_both, repetitions, tmp_path):
    for seed in (1, 2):
        make_source(seed=seed).to_netcdf(tmp_path / f"{seed}.nc")
    out = tmp_path / "s.zarr"
    assert (
        assert_one_complete_output(
            run_both,
            repetitions,
            out,
            *(("ingest", tmp_path / f"{i}.nc", "-o", out, "--overwrite") for i in (1, 2)),
        )
        or repetitions < 10
    )
    remove(out)
    assert_one_complete_output(
        run_both,
        repetitions,
        out,
        *(("ingest", tmp_path / f"{i}.nc", "-o", out) for i in (1, 2)),
        overwrite=False,
    )


def test_concurrent_appends_leave_one_complete_store(run_both, repetitions, tmp_path):
    source = make_source()
    source.isel(time=slice(0, 100)).to_netcdf(tmp_path / "old.nc")
    source.isel(time=slice(100, 130)).to_netcdf(tmp_path / "new1.nc")
    source.isel(time=slice(100, 160)).to_netcdf(tmp_path / "new2.nc")
    out = tmp_path / "s.zarr"
    for _ in range(repetitions):
        remove(out)
        assert run_both(("ingest", tmp_path / "old.nc", "-o", out), ("--help",))[0][0] == 0
        results = run_both(*(("ingest", tmp_path / f"new{i}.nc", "-o", out, "--append") for i in (1, 2)))
        assert sorted(code for code, _ in results) == [0, 2], results
        with xr.open_zarr(out) as store:
            assert store.sizes["time"] == (130, 160)[results[0][0] != 0]
            assert store["t2m"].notnull().all()


def test_concurrent_verifications_leave_one_complete_score_file(
    run_both, repetitions, tiny_checkpoint, tiny_store, tmp_path
):
    forecast, scores = tmp_path / "f.zarr", tmp_path / "scores.nc"
    run = (
        "run",
        tiny_checkpoint,
        "--init",
        tiny_store,
        "--lead",
        "24h",
        "--time",
        "2001-01-20",
        "-o",
        forecast,
    )
    assert run_both(run, ("--help",))[0][0] == 0
    verify = ("verify", forecast, "--truth", tiny_store, "--overwrite", "-o", scores)
    assert_one_complete_output(run_both, repetitions, scores, verify, (*verify, "--area", "50/210/40/240"))


def test_concurrent_plots_leave_one_complete_picture(
    run_both, repetitions, tiny_checkpoint, tiny_store, tmp_path
):
    forecast, picture = tmp_path / "f.zarr", tmp_path / "map.png"
    run = ("run", tiny_checkpoint, "--init", tiny_store, "--lead", "24h", "-o", forecast)
    assert run_both(run, ("--help",))[0][0] == 0
    plot = ("plot", forecast, "--variable", "t2m", "--overwrite", "-o", picture)
    assert_one_complete_output(
        run_both, repetitions, picture, (*plot, "--lead", "12h"), (*plot, "--lead", "24h"), Path.read_bytes
    )


def test_concurrent_simulations_leave_one_complete_data_set(run_both, repetitions, tmp_path):
    out = tmp_path / "w.zarr"
    simulate = ("simulate", "burgers", "--overwrite", "-o", out, "samples=3", "resolution=32", "duration=0.1")
    assert_one_complete_output(run_both, repetitions, out, (*simulate, "seed=1"), (*simulate, "seed=2"))


def test_concurrent_trainings_leave_one_complete_checkpoint(run_both, repetitions, tiny_store, tmp_path):
    args = [
        "quickstart",
        f"data.store={tiny_store}",
        "model.n_modes=[4,4]",
        "model.hidden_channels=4",
        "model.n_layers=1",
    ]
    args += [
        "train.epochs=3",
        "train.batch_size=32",
        "model.members=1",
        "data.samples_per_epoch=64",
        "model.window=1",
    ]
    refused = 0
    for i in range(repetitions):
        out = tmp_path / str(i)
        results = run_both(*[("train", *args, f"output={out}")] * 2)
        assert 0 in [code for code, _ in results], results
        for code, text in results:
            assert code == 0 or (
                code == 2 and "is being written by process" in text and "--overwrite" not in text
            ), text
            refused += code == 2
        records = [json.loads(line) for line in (out / "state" / "log.jsonl").read_text().splitlines()]
        assert [record["epoch"] for record in records] == [0, 1, 2]
    assert refused or repetitions < 10


@pytest.mark.slow
def test_concurrent_exports_leave_one_complete_program(run_both, repetitions, tiny_checkpoint, tmp_path):
    out = tmp_path / "m.pt2"
    export = ("export", tiny_checkpoint, "--format", "torch-export", "--overwrite", "-o", out)
    for _ in range(repetitions):
        results = run_both((*export, "--size", "7,12"), (*export, "--size", "14,24"))
        assert 0 in [code for code, _ in results]
        import torch

        assert torch.export.load(out) is not None


@pytest.mark.slow
def test_concurrent_quickstarts_leave_one_complete_result(run_both, repetitions, tmp_path):
    make_source().to_netcdf(tmp_path / "a.nc")
    quickstart = ("quickstart", "--data", tmp_path / "a.nc", "--out", tmp_path / "q", "train.epochs=1")
    for _ in range(repetitions):
        remove(tmp_path / "q")
        codes = [code for code, _ in run_both(quickstart, quickstart)]
        assert 0 in codes and set(codes) <= {0, 2}


def test_concurrent_imports_leave_one_complete_network(run_both, repetitions, real_data, tmp_path):
    reference, out = real_data / "reference", tmp_path / "net"
    first = (
        "import",
        reference / "neuralop_fno_tiny.pt",
        "--format",
        "neuraloperator",
        "--overwrite",
        "-o",
        out,
    )
    second = (
        "import",
        reference / "fourcastnet_tiny.ckpt",
        "--format",
        "fourcastnet",
        "--inp-shape",
        "32,64",
        "--overwrite",
        "-o",
        out,
    )
    assert_one_complete_output(
        run_both, repetitions, out, first, second, lambda path: (path / "weights.safetensors").read_bytes()
    )
