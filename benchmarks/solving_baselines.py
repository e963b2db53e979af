"""Linear regression of the temperature in heat sinks, a baseline of the operator."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fourcaster.datasets.pde.loaders import open_simulations
from fourcaster.fno.physics.steady import reference_size

PENALTIES = (100.0, 300.0, 1000.0, 3000.0, 10000.0)  # of the regression, selected by the validation samples

Values = NDArray[np.float64]


def features_and_temperature(path: Path) -> tuple[Values, Values, Values]:
    """Return features, temperatures and budget temperatures of heat sinks.

    Args:
        path: store of simulated heat sinks.

    Returns:
        Features, shape (sample, feature); temperature [K], shape (sample, cell); temperature of the budget
        [K], shape (sample,).

    Raises:
        ValueError: the store contains no solutions.
    """
    store = open_simulations(path)
    sinks = store.read(np.arange(len(store)), double=True)
    budget = (
        reference_size("heat_sink", store.system.model_dump())(sinks.inputs, sinks.parameters)
        .flatten()
        .numpy()
    )
    metal = sinks.inputs[:, 0].flatten(1).numpy()
    transfer = np.log(sinks.parameters["transfer"].numpy())[:, None]
    if sinks.solution is None:
        raise ValueError(f"{path} contains no solutions")
    return (
        np.concatenate([metal, metal * transfer, transfer, transfer**2], axis=1),
        sinks.solution[:, 0, 0].flatten(1).numpy(),
        budget,
    )


def ridge(features: Values, values: Values, test_features: Values, *, count: int, scale: Values) -> Values:
    """Return the prediction of a ridge regression in each cell.

    Args:
        features: features of the training and validation samples, shape (sample, feature).
        values: values to predict, shape (sample, cell), NaN where undefined.
        test_features: features of the test samples.
        count: number of training samples; the validation samples after these select the penalty.
        scale: factors of the values of the validation samples in their error.
    """
    mean = features[:count].mean(axis=0)
    std = features[:count].std(axis=0)
    features, test_features = ((x - mean) / np.where(std > 0, std, 1) for x in (features, test_features))
    kernel = np.concatenate([features, test_features]) @ features[:count].T
    expected = values[count:] * scale
    best: tuple[float, Values] = (np.inf, np.zeros(0))
    for penalty in PENALTIES:
        # The budget, 1, is the prediction for cells without metal in all training samples.
        predicted = np.ones((len(kernel) - count, values.shape[1]))
        for cell in range(values.shape[1]):
            defined = np.isfinite(values[:count, cell])
            if defined.any():
                targets = values[:count][defined, cell]
                # Centre the features on their mean over the samples with metal in this cell.
                products = kernel[:, defined] - kernel[:, defined].mean(axis=1, keepdims=True)
                offset = products[:count][defined].mean(axis=0)
                gram = products[:count][defined] - offset
                weights = np.linalg.solve(gram + penalty * np.eye(len(targets)), targets - targets.mean())
                predicted[:, cell] = targets.mean() + (products[count:] - offset) @ weights
        validation = predicted[: len(expected)] * scale
        squares = np.nansum((validation - expected) ** 2, axis=1) / np.nansum(expected**2, axis=1)
        error = float(np.mean(np.sqrt(squares)))
        best = min(best, (error, predicted[len(expected) :]), key=lambda pair: pair[0])
    return best[1]
