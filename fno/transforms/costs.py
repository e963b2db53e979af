"""Measured constants of the cost model that selects FFT or matrix product.

``benchmarks/transforms.py`` measures and fits them, with results in ``benchmarks/results/transforms.json``.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Constants of one kind of device, for float32 and one thread.

    Attributes:
        product_rate: rate of matrix products [GFLOP/s, that is operations per nanosecond].
        fft_base: time of the FFT per point, independent of its size [ns].
        fft_log: time of the FFT per point and butterfly [ns].
    """

    product_rate: float
    fft_base: float
    fft_log: float


COSTS = {"cpu": Cost(product_rate=70.0, fft_base=0.67, fft_log=0.20)}
