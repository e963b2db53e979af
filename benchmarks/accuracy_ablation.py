"""What each ingredient brings on Darcy flow: errors on validation samples from the training set."""

from dataclasses import replace

import accuracy_data as data
from accuracy_cases import DARCY, DARCY_RECIPE, Case, Side, Sizes
from accuracy_networks import DarcyOperator, Shape, peer
from accuracy_training import Recipe, Samples, Scaled, error

VALIDATION = 100


def split(samples: Samples) -> tuple[Samples, Samples]:
    """Return samples without the last ones, and these."""
    return samples[: len(samples) - VALIDATION], samples[len(samples) - VALIDATION :]


def darcy_ablation(sizes: Sizes) -> Case:
    """The operator of Darcy flow without each of its parts, trained for five epochs on 900 samples."""
    stored = data.darcy("train", 16)
    train, validation = split(stored)
    train = sizes.some(train)
    validation = sizes.some(validation, 4)
    scale = float(train.y.std())
    recipe = replace(DARCY_RECIPE, epochs=sizes.epochs(5))

    def side(shape: Shape = DARCY, *, boundary: bool = True, recipe: Recipe = recipe) -> Side:
        return Side(lambda: Scaled(DarcyOperator(shape, boundary=boundary), scale), recipe)

    theirs = Recipe(recipe.epochs, learning_rate=5e-3)
    sides = {
        "ours": side(),
        "without the H1 term of the loss": side(recipe=replace(recipe, loss="l2")),
        "without symmetries": side(recipe=replace(recipe, symmetry=None)),
        "AdamW in place of Muon": side(recipe=replace(recipe, optimizer="adamw", learning_rate=5e-3)),
        "without the local branch": side(replace(DARCY, local=False)),
        "without the input in every block": side(replace(DARCY, inject=False)),
        "without the factor of the boundary": side(boundary=False),
        "Fourier series in place of cosines": side(replace(DARCY, series="fourier")),
        "theirs": Side(lambda: Scaled(peer((8, 8), 1, 1, width=24), scale), replace(theirs, loss="h1")),
        "theirs, loss without the H1 term": Side(lambda: Scaled(peer((8, 8), 1, 1, width=24), scale), theirs),
        "theirs, with symmetries": Side(
            lambda: Scaled(peer((8, 8), 1, 1, width=24), scale),
            replace(theirs, loss="h1", symmetry=recipe.symmetry),
        ),
    }
    tests = {"16, validation": lambda net: error(net, validation)}
    return Case("Darcy 16 x 16, what brings what", [train], sides, tests, {}, {})
