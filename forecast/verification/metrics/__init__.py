"""Metrics of ``verify``: one class each, registered by name.

A metric is computed in three stages, as in WeatherBench-X: *statistics* at each grid point, their weighted
sums over area and initial times (an *aggregation*), and the *metric*, a function of the sums. Sums of parts
of the data therefore add up to those of all of it, and the root of a mean square error is taken after the
mean over time.

To add a metric, write a class in a new file of this directory, all of which are imported::

    @register("exceedance")
    class Exceedance(Metric):
        label = "exceedance"
        statistics = (large_error,)

        def compute(self, aggregation):
            return aggregation.mean(large_error)

Here ``large_error`` is a function from a ``Sample`` to an array of its grid points. Another package names
its class in the entry point group ``fourcaster.metrics``.
"""
