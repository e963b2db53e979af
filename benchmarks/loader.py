"""Measure the throughput of shuffled samples from a store, next to the raw limit and other packages' loaders.

    python benchmarks/loader.py                               # writes benchmarks/results/loader.json
    python benchmarks/loader.py --anemoi .anemoi/bin/python   # with anemoi-datasets in a separate environment

A sample is a pair of consecutive states of six variables; samples are shuffled over the whole series. The
store contains random smooth fields and is written by the writer of ``forecast ingest``. The raw limit reads
and decompresses the chunks of each sample in two threads, and does nothing else. One run of each loader is
not counted, so that the files are in the page cache.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numcodecs
import numpy as np
import xarray as xr

from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.datasets.loaders.batches import POOL, POOLS_IN_MEMORY, BatchReader, StoreBatches
from fourcaster.datasets.store.direct import DirectFields
from fourcaster.datasets.store.fields import Fields
from fourcaster.datasets.store.open import open_store, store_statistics
from fourcaster.forecast.cli.process import keep_freed_memory

GRIDS = {"32x64": (32, 64, 4000), "121x240": (121, 240, 1200)}
NAMES = ["2m_temperature", "10m_u", "10m_v", "pressure", "water", "height"]
SHORT_NAMES = ["2t", "10u", "10v", "sp", "tcwv", "msl"]  # of such fields at ECMWF and in anemoi-datasets
BATCH = 16
REPEATS = 3

# Run by the interpreter of the other environment: writes the same values in the layout of anemoi-datasets,
# one chunk per time, and reads pairs.
ANEMOI = """
import json, sys, time
import numpy as np, zarr
from anemoi.datasets import open_dataset
values, path, count = np.load(sys.argv[1], mmap_mode="r"), sys.argv[2], int(sys.argv[3])
n, c, h, w = values.shape
root = zarr.open_group(path, mode="w")
data = root.create_dataset("data", shape=(n, c, 1, h * w), chunks=(1, c, 1, h * w), dtype="f4")
for i in range(n):
    data[i] = values[i].reshape(c, 1, h * w)
root.create_dataset("dates", data=np.datetime64("2000-01-01T00", "s") + np.arange(n) * np.timedelta64(6, "h"))
for name, coordinate in np.load(sys.argv[5]).items():
    root.create_dataset(name, data=coordinate.ravel())
    root[name].attrs["_ARRAY_DIMENSIONS"] = ["cell"]
data.attrs["_ARRAY_DIMENSIONS"] = ["time", "variable", "ensemble", "cell"]
root["dates"].attrs["_ARRAY_DIMENSIONS"] = ["time"]
for name in ("mean", "stdev", "minimum", "maximum"):
    root.create_dataset(name, data=np.ones(c))
    root[name].attrs["_ARRAY_DIMENSIONS"] = ["variable"]
root.attrs.update({"variables": sys.argv[4].split(","), "frequency": "6h", "resolution": "x"})
root.attrs.update({"version": "0.30", "ensemble_dimension": 2})
root.attrs["field_shape"] = [h, w]
store, order = open_dataset(path), np.random.default_rng(0).permutation(n - 1)[:count]
rates = []
for _ in range(4):
    start = time.perf_counter()
    for i in order:
        pair = store[int(i):int(i) + 2]
    rates.append(count / (time.perf_counter() - start))
assert np.array_equal(pair[:, :, 0].reshape(2, c, h, w), values[order[-1]:order[-1] + 2])
print(json.dumps(sorted(rates[1:])[1]))
"""


def write_fields(shape: tuple[int, int], times: int, path: Path) -> None:
    """Write a store of random smooth fields that are correlated in time, every six hours."""
    rng = np.random.default_rng(0)
    h, w = shape
    wavenumber = np.hypot(np.fft.fftfreq(h)[:, None] * h, np.fft.rfftfreq(w) * w)
    amplitude = h * w / (1 + wavenumber) ** 2
    fields = {}
    for i, name in enumerate(NAMES):
        values = np.empty((times, *shape), np.float32)
        state = np.zeros(wavenumber.shape, complex)
        for t in range(times):
            state = 0.97 * state + 0.24 * (rng.normal(size=state.shape) + 1j * rng.normal(size=state.shape))
            values[t] = 280 + i + 3 * np.fft.irfft2(state * amplitude, s=shape)
        fields[name] = (("time", "latitude", "longitude"), values, {"units": "K"})
    coords = {
        "time": np.datetime64("2000-01-01T00", "ns") + np.arange(times) * np.timedelta64(6, "h"),
        "latitude": np.linspace(-90, 90, h) if h % 2 else (np.arange(h) + 0.5) * 180 / h - 90,
        "longitude": np.arange(w) * 360 / w,
    }
    write_store(xr.Dataset(fields, coords), path, memory=2**33)


def raw(path: Path, order: np.ndarray) -> Callable[[], int]:
    """Return a function that reads and decompresses the chunks of all pairs in two threads.

    It returns the number of pairs, as the functions for the other loaders do.
    """
    group = xr.open_zarr(path, chunks=None)
    shard = int(group[NAMES[0]].encoding["shards"][0])
    times = group.sizes["time"]
    codec = numcodecs.Blosc()
    shards = {}
    for name in NAMES:
        for s in range(-(-times // shard)):
            file = os.open(path / name / "c" / str(s) / "0" / "0", os.O_RDONLY)
            index = os.pread(file, 16 * shard, os.fstat(file).st_size - 16 * shard - 4)
            shards[name, s] = file, np.frombuffer(index, "<u8").reshape(-1, 2).tolist()

    def read_pairs(starts: np.ndarray) -> None:
        for start in starts.tolist():
            for t in (start, start + 1):
                for name in NAMES:
                    file, index = shards[name, t // shard]
                    offset, length = index[t % shard]
                    codec.decode(os.pread(file, length, offset))

    def run() -> int:
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(read_pairs, np.array_split(order, 64)))
        return len(order)

    return run


def ours(path: Path, *, direct: bool, whole_batch: bool) -> Callable[[], int]:
    """Return a function that reads one epoch with our loader.

    Args:
        path: store.
        direct: whether to read the shards directly instead of through dask.
        whole_batch: whether to add climatology and forcings, as for training.
    """
    store = open_store(path)
    fields = DirectFields(store.dataset, path) if direct else Fields(store.dataset)
    cycle = store_statistics(store, fields, slice(0, 300)).cycle
    times = len(store.dataset["time"])
    block = max(1, 2**29 // (POOLS_IN_MEMORY * POOL * fields.array[0].nbytes))
    reader = BatchReader(fields, cycle, store.grid, store.step)
    source = StoreBatches(reader, slice(0, times), slice(times, times), [], 1, BATCH, block=block)

    def states() -> Iterator[int]:
        order, cuts = source._shuffle(source.starts(source.train, 2), np.random.default_rng(0))
        for starts in np.split(order, cuts):
            pool = reader.pool(starts, 2)
            for i in range(0, len(starts), BATCH):
                yield len(
                    pool.states[np.searchsorted(pool.positions, starts[i : i + BATCH, None] + np.arange(2))]
                )

    return lambda: sum(map(len, source.epoch(0, 1))) if whole_batch else sum(states())


def plain(path: Path, order: np.ndarray) -> Callable[[], int]:
    """Return a function that loads each pair through xarray and dask, with the chunks of the store."""
    dataset = xr.open_zarr(path)[NAMES]

    def run() -> int:
        for i in order:
            dataset.isel(time=slice(i, i + 2)).to_array().values  # noqa: B018 (loads it)
        return len(order)

    return run


def xbatcher(path: Path, order: np.ndarray) -> Callable[[], int] | None:
    """Return a function that loads the same pairs with xbatcher; None if it is not installed."""
    try:
        import xbatcher
    except ImportError:
        return None
    dataset = xr.open_zarr(path, chunks=None)[NAMES]
    generator = xbatcher.BatchGenerator(
        dataset, dict(dataset.sizes) | {"time": 2}, {"time": 1}, preload_batch=False
    )

    def run() -> int:
        for i in order:
            generator[int(i)].to_array().values  # noqa: B018 (loads it)
        return len(order)

    return run


def rate(run: Callable[[], int]) -> float:
    """Return the median rate of a function [samples/s], after one run that is not counted."""
    rates = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        samples = run()
        rates.append(samples / (time.perf_counter() - start))
    return median(rates[1:])


def anemoi(interpreter: Path, path: Path, folder: Path, count: int) -> float:
    """Return the rate of the loader of anemoi-datasets [samples/s], measured in a separate process.

    Our adapter must read the same values from its data set.
    """
    values = folder / "values.npy"
    coordinates = folder / "coordinates.npz"
    store = open_store(path)
    np.save(values, Fields(store.dataset[NAMES]).read(slice(None))[:, :, ::-1])  # from north to south
    latitude, longitude = np.meshgrid(store.grid.latitude[::-1], store.grid.longitude, indexing="ij")
    np.savez(coordinates, latitudes=latitude, longitudes=longitude)
    (folder / "read.py").write_text(ANEMOI)
    process = subprocess.run(
        [
            interpreter,
            folder / "read.py",
            values,
            folder / "anemoi.zarr",
            str(count),
            ",".join(SHORT_NAMES),
            coordinates,
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    dataset = open_sources([folder / "anemoi.zarr"])
    order = [
        next(name for name, v in dataset.data_vars.items() if v.attrs["source_name"] == short)
        for short in SHORT_NAMES
    ]
    assert np.array_equal(
        Fields(dataset[order].isel(time=slice(0, 50))).read(slice(None)), np.load(values, mmap_mode="r")[:50]
    )
    return float(json.loads(process.stdout.splitlines()[-1]))


def measure(name: str, interpreter: Path | None) -> dict[str, object]:
    """Return the rates on one grid and their ratios."""
    h, w, times = GRIDS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.zarr"
        write_fields((h, w), times, path)
        order = np.random.default_rng(1).permutation(times - 1)
        runs = {
            "raw limit": raw(path, order),
            "direct": ours(path, direct=True, whole_batch=False),
            "direct, with climatology and forcings": ours(path, direct=True, whole_batch=True),
            "dask": ours(path, direct=False, whole_batch=False),
            "dask, with climatology and forcings": ours(path, direct=False, whole_batch=True),
            "xarray+dask": plain(path, order[:40]),
            "xbatcher": xbatcher(path, order[:40]),
        }
        rates = {label: round(rate(run), 1) for label, run in runs.items() if run is not None}
        if interpreter is not None:
            rates["anemoi-datasets"] = round(anemoi(interpreter, path, Path(folder), 400), 1)
    megabytes = 2 * len(NAMES) * h * w * 4 / 1e6
    whole_batch = rates["direct, with climatology and forcings"]
    ratios = {
        "direct / raw limit": rates["direct"] / rates["raw limit"],
        "direct, whole batch / raw limit": whole_batch / rates["raw limit"],
        "dask / xarray+dask": rates["dask"] / rates["xarray+dask"],
    }
    if interpreter is not None:
        ratios["direct / anemoi-datasets"] = rates["direct"] / rates["anemoi-datasets"]
    return {
        "grid": name,
        "megabytes_per_sample": round(megabytes, 4),
        "samples_per_second": rates,
        "megabytes_per_second": {label: round(value * megabytes, 1) for label, value in rates.items()},
        "ratios": {label: round(value, 2) for label, value in ratios.items()},
    }


def main() -> None:
    """Measure the rates on all grids, and write and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--anemoi", type=Path, help="interpreter of an environment with anemoi-datasets")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "loader.json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    keep_freed_memory()
    numcodecs.blosc.set_nthreads(1)  # the raw limit starts two threads
    rows = [measure(name, arguments.anemoi) for name in GRIDS]
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "xarray": xr.__version__}
    arguments.output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    for row in rows:
        print(json.dumps(row, indent=1), file=sys.stderr)


if __name__ == "__main__":
    main()
