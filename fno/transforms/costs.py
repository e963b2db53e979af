"""Measured constants of the cost model that chooses between FFT and matrix product.

``benchmarks/transforms.py`` measures and fits them; its result is in ``benchmarks/results/transforms.json``.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Constants of one kind of device, for float32 and one thread.

    Attributes:
        product_rate: matrix products, GFLOP/s (that is, operations a nanosecond).
        fft_base: nanoseconds a point takes in the FFT whatever its size.
        fft_log: nanoseconds a point takes for each butterfly.
    """

    product_rate: float
    fft_base: float
    fft_log: float


COSTS = {"cpu": Cost(product_rate=70.0, fft_base=0.67, fft_log=0.20)}
