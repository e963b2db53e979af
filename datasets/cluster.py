"""Connection to a Dask cluster: a running scheduler or local processes."""

import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 10
_ANY_PORT = "127.0.0.1:0"  # of the HTTP server, whose default port other clusters use too
MAX_PROCESSES = max(64, 4 * (os.cpu_count() or 1))


@contextmanager
def quiet() -> Iterator[None]:
    """Limit the logging of ``distributed`` to warnings and errors within the context."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    levels = {name: logging.getLogger(name).level for name in names}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def connected(scheduler: str) -> Iterator["Client"]:
    """Yield a client of the scheduler at an address, or of N local processes for ``local:N``.

    Local processes end with the context.

    Args:
        scheduler: address such as ``tcp://host:8786``, or ``local:N``.

    Raises:
        ValueError: ``scheduler`` is neither, or N is too large.
        OSError: there is no scheduler at the address.
    """
    import distributed  # noqa: F401 (creates the loggers)

    with quiet(), _client(scheduler) as client:
        yield client


@contextmanager
def _client(scheduler: str) -> Iterator["Client"]:
    from distributed import Client, LocalCluster

    if scheduler.startswith("local:"):
        count = scheduler.removeprefix("local:")
        if count.isdecimal() and (len(count) > 9 or int(count) > MAX_PROCESSES):
            raise ValueError(
                f"scheduler {scheduler[:80]!r} would start more than {MAX_PROCESSES} processes on this "
                "machine; use fewer"
            )
        if not count.isdecimal() or int(count) < 1:
            raise ValueError(
                f"invalid scheduler {scheduler!r}; write local:N with N processes, or an address such as "
                "tcp://host:8786"
            )
        with (
            LocalCluster(
                n_workers=int(count), threads_per_worker=1, processes=True, dashboard_address=_ANY_PORT
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
    with closing(client):  # unlike ``with client``, may be closed by another thread
        yield client
