"""Connection to a Dask cluster: a running scheduler, or local processes."""

import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

CONNECT_SECONDS = 10
MOST_PROCESSES = max(64, 4 * (os.cpu_count() or 1))


def quieten() -> None:
    """Limit Dask's logging to warnings and errors."""
    for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]:
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))


@contextmanager
def connected(scheduler: str) -> Iterator[Any]:
    """Yield a client of the scheduler at an address, or of ``local:N`` processes that end with the context.

    Raises:
        ValueError: ``scheduler`` is neither.
        OSError: there is no scheduler at the address.
    """
    from distributed import Client, LocalCluster

    quieten()
    if scheduler.startswith("local:"):
        count = scheduler.removeprefix("local:")
        if count.isdecimal() and (len(count) > 9 or int(count) > MOST_PROCESSES):
            raise ValueError(
                f"scheduler {scheduler[:80]!r} would start more than {MOST_PROCESSES} processes on this "
                "machine; use fewer"
            )
        if not count.isdecimal() or int(count) < 1:
            raise ValueError(
                f"invalid scheduler {scheduler!r}; write local:N with N processes, or an address such as "
                "tcp://host:8786"
            )
        with (
            LocalCluster(
                n_workers=int(count), threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            closing(Client(cluster)) as client,
        ):
            yield client
        return
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise OSError(
            f"no Dask scheduler answers at {scheduler} ({' '.join(str(error).split())[:120]})"
        ) from error
    with closing(client):  # a client that is entered can be left by the same thread only
        yield client
