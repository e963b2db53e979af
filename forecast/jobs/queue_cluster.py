"""Dask workers that run as jobs of a queue."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from ...datasets.cluster import quiet
from .spec import Cluster

if TYPE_CHECKING:
    from distributed import Client

_CLUSTERS = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "oar": "OARCluster",
    "htcondor": "HTCondorCluster",
    "moab": "MoabCluster",
}
"""Classes of dask-jobqueue by kind of queue."""


@contextmanager
def queued(cluster: Cluster) -> Iterator["Client"]:
    """Provide a client of Dask workers that run as jobs of a queue and end with the context.

    Raises:
        ValueError: dask-jobqueue is not installed, or does not support an option.
        OSError: the queue takes no jobs.
    """
    from distributed import Client

    try:
        import dask_jobqueue
        import dask_jobqueue.local
    except ImportError as error:
        raise ValueError("a cluster needs one more package: pip install 'fourcaster[jobqueue]'") from error
    cluster_class = (
        dask_jobqueue.local.LocalCluster
        if cluster.queue == "local"
        else getattr(dask_jobqueue, _CLUSTERS[cluster.queue])
    )
    with quiet():
        try:
            workers = cluster_class(**cluster.options)
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"the cluster's options are not understood by dask-jobqueue: {reason}"
            ) from error
        with workers, closing(Client(workers)) as client:
            try:
                workers.scale(jobs=cluster.jobs)
            except (RuntimeError, OSError) as error:
                raise OSError(f"the queue takes no jobs: {' '.join(str(error).split())[:200]}") from error
            yield client
