"""Batches: equal from disk and from memory, each sample once per epoch, resumable at any step."""

import time

import numpy as np
import pytest
import torch
from helpers import make_source

from fourcaster.datasets.adapters.cf import canonical
from fourcaster.datasets.ingest.write import write_store
from fourcaster.datasets.loaders.batches import BatchReader, StoreBatches, prefetch
from fourcaster.datasets.store.direct import DirectFields
from fourcaster.datasets.store.fields import Fields
from fourcaster.datasets.store.open import open_store, store_statistics


def make_batches(path, cache_bytes=0, **settings):
    store = open_store(path, whole_shards=bool(cache_bytes))
    fields = Fields(store.dataset, cache_bytes)
    cycle = store_statistics(store, fields, slice(0, 120)).cycle
    reader = BatchReader(fields, cycle, store.grid, store.step)
    return StoreBatches(
        reader, slice(0, 100), slice(100, 120), store.gaps, window=2, batch_size=8, seed=3, **settings
    )


@pytest.fixture(scope="module")
def batches(tiny_store):
    return make_batches(tiny_store)


def test_a_batch_contains_consecutive_states(batches, tiny_store):
    truth = open_store(tiny_store).dataset
    batch = batches.reader.read(np.array([7, 30]), 4)
    assert batch.state.shape == batch.background.shape == (2, 4, 2, 7, 12) and batch.forcing.shape == (
        2,
        4,
        3,
        7,
        12,
    )
    assert np.array_equal(batch.state[1, 2, 1], truth["t2m"].values[32])
    assert np.array_equal(batch.background[0, 3], batches.reader.cycle.at(truth["time"].values[[10]])[0])


@pytest.mark.parametrize("block", [1, 16])
def test_memory_and_disk_give_the_same_batches(tiny_store, block):
    disk, memory = (make_batches(tiny_store, cache, block=block) for cache in (0, 2**30))
    for a, b in zip(disk.epoch(1, 2), memory.epoch(1, 2), strict=True):
        assert (
            torch.equal(a.state, b.state)
            and torch.equal(a.background, b.background)
            and torch.equal(a.forcing, b.forcing)
        )


@pytest.mark.parametrize("block", [1, 16])
def test_each_epoch_visits_every_sample_once_in_its_own_order(tiny_store, block):
    batches = make_batches(tiny_store, 2**30, block=block)
    times = batches.reader.fields.times

    def order(epoch):
        requested = []
        read_batch = batches.reader.batch
        batches.reader.batch = lambda starts, length, pool: (
            requested.extend(starts.tolist()) or read_batch(starts, length, pool)
        )
        assert sum(1 for _ in batches.epoch(epoch, 1)) == batches.steps_per_epoch()
        batches.reader.batch = read_batch
        return requested

    first, second = order(0), order(1)
    assert first == order(0) and first != second and len(times) == 160
    assert len(set(first)) == len(first) == 96 and set(first) <= set(range(98))


@pytest.mark.parametrize("block", [1, 3])
def test_an_epoch_resumes_at_any_batch(tiny_store, block):
    batches = make_batches(tiny_store, block=block)
    whole = [b.state for b in batches.epoch(4, 1)]
    rest = [b.state for b in batches.epoch(4, 1, start=7)]
    assert len(rest) == len(whole) - 7 and all(
        torch.equal(a, b) for a, b in zip(whole[7:], rest, strict=True)
    )


@pytest.mark.parametrize("block", [1, 3])
def test_dask_and_direct_readers_give_the_same_batches(tiny_store, block):
    dask, direct = make_batches(tiny_store, block=block), make_batches(tiny_store, block=block)
    direct.reader.fields = DirectFields(open_store(tiny_store).dataset, tiny_store)
    for a, b in zip(dask.epoch(2, 3), direct.epoch(2, 3), strict=True):
        assert torch.equal(a.state, b.state) and torch.equal(a.background, b.background)
    assert np.array_equal(
        direct.reader.fields.part(slice(1, 2)).read(np.array([3, 9])),
        dask.reader.fields.read(np.array([3, 9]))[:, 1:],
    )


@pytest.mark.parametrize("block", [1, 3])
def test_processes_divide_the_batches_of_one_process(tiny_store, block):
    whole = make_batches(tiny_store, 2**30, block=block)
    parts = [make_batches(tiny_store, 2**30, block=block, rank=rank, ranks=3) for rank in range(3)]
    assert {part.steps_per_epoch() for part in parts} == {whole.steps_per_epoch()}
    for batch, *own in zip(whole.epoch(1, 2), *(part.epoch(1, 2) for part in parts), strict=True):
        for rank, part in enumerate(own):
            assert torch.equal(part.state, batch.state[rank::3])
            assert torch.equal(part.forcing, batch.forcing[rank::3])
    for batch, *own in zip(whole.validation(3, 10), *(p.validation(3, 10) for p in parts), strict=True):
        assert all(torch.equal(part.state, batch.state[rank::3]) for rank, part in enumerate(own))


def test_every_process_has_as_many_validation_batches(tiny_store):
    parts = [make_batches(tiny_store, rank=rank, ranks=3) for rank in range(3)]
    assert [[len(b) for b in part.validation(3, 9)] for part in parts] == [[3, 1], [3, 0], [2, 0]]
    assert parts[2].steps_per_epoch() and list(parts[2].validation(3, 9))[1].state.shape[1] == 5


def test_a_batch_has_a_sample_for_each_process(tiny_store):
    with pytest.raises(ValueError, match="8 samples cannot be divided among 9 processes"):
        make_batches(tiny_store, rank=0, ranks=9)


def test_samples_can_be_limited_and_long_rollouts_are_shortened(tiny_store):
    limited = make_batches(tiny_store, samples_per_epoch=20)
    assert limited.steps_per_epoch() == 2 and len(list(limited.epoch(0, 1))) == 2
    long = next(iter(make_batches(tiny_store).epoch(0, 500)))
    assert long.state.shape[1] == 100


def test_validation_samples_are_spread_over_their_period(batches):
    (first, *rest) = list(batches.validation(3, 6))
    assert not rest and first.state.shape[:2] == (6, 5)
    steps = list(batches.validation(30, 100))
    assert steps[0].state.shape[1] <= 20
    empty = StoreBatches(batches.reader, slice(0, 100), slice(100, 100), [], 2, 8)
    assert list(empty.validation(3, 6)) == []


def test_prefetch_preserves_order_and_raises_errors():
    assert list(prefetch(lambda i=i: i * i for i in range(20))) == [i * i for i in range(20)]

    def fail():
        raise ZeroDivisionError

    results = prefetch(iter([lambda: 1, fail, lambda: 2]))
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_a_prefetch_stops_its_thread():
    import threading

    results = prefetch(lambda i=i: i for i in range(10**6))
    assert next(results) == 0
    results.close()
    time.sleep(0.05)
    assert not [t for t in threading.enumerate() if t.name == "prefetch"]


def test_samples_do_not_cross_gaps(tmp_path):
    source = make_source().isel(time=[*range(40), *range(50, 160)])
    write_store(canonical(source, "memory"), tmp_path / "s.zarr", allow_gaps=True)
    batches = make_batches(tmp_path / "s.zarr", 2**30)
    times, starts = batches.reader.fields.times, batches.starts(batches.train, 4)
    assert (
        all(times[s + 3] - times[s] == np.timedelta64(18, "h") for s in starts) and len(starts) == 100 - 3 - 3
    )
