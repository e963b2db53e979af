"""How the fields of a store are read in training: by which route, and in which blocks."""

import importlib.util

from ....datasets.loaders.batches import POOL, POOLS_IN_MEMORY
from ....datasets.store.direct import DirectFields
from ....datasets.store.fields import Fields
from ....datasets.store.open import Store, open_store
from ...config.weather import WeatherConfig
from .forcing_inputs import split_variables


def open_fields(config: WeatherConfig, store: Store) -> Fields:
    """Return the fields by the configured route.

    Through dask, whole shards are read, except where single times are drawn from a store that exceeds the
    cache.
    """
    data = config.data
    fields = Fields(store.dataset, data.cache_bytes)
    if data.route == "direct":
        if importlib.util.find_spec("zarrs") is None:
            raise ValueError(
                "the direct route needs one more package: pip install 'fourcaster[fast]', or set "
                "data.route=dask"
            )
        return DirectFields(store.dataset, store.path, data.cache_bytes)
    if fields.array.nbytes > data.cache_bytes and block_length(fields, config) == 1:
        return fields
    return Fields(split_variables(open_store(data.store), data)[0].dataset, data.cache_bytes)


def block_length(fields: Fields, config: WeatherConfig, more: int = 0) -> int:
    """Return the length of shuffled blocks of times.

    It is 1 if the store fits into memory, or if a pool would contain only a few times.

    Args:
        fields: the states.
        config: configuration of the run.
        more: size of the stored forcings, which are read with the states [bytes].
    """
    nbytes = fields.array.nbytes + more
    if nbytes <= config.data.cache_bytes:
        return 1
    each = int(fields.array[0].nbytes) + more // len(fields.times)
    return max(1, config.data.buffer_bytes // (POOLS_IN_MEMORY * POOL * each))
