"""The registry of equations: those of this package, and entry points ``fourcaster.equations`` of others.

An equation is added with one file that defines an ``Equation`` and one entry::

    [project.entry-points."fourcaster.equations"]
    kuramoto_sivashinsky = "my_package.kuramoto_sivashinsky:KURAMOTO_SIVASHINSKY"
"""

import difflib
from importlib.metadata import entry_points

from ...errors import InputError
from .advection import ADVECTION
from .allen_cahn import ALLEN_CAHN
from .barotropic import BAROTROPIC
from .base import Equation
from .burgers import BURGERS
from .cahn_hilliard import CAHN_HILLIARD
from .darcy import DARCY
from .heat_conduction import HEAT_CONDUCTION
from .heat_sink import HEAT_SINK
from .navier_stokes import NAVIER_STOKES
from .reaction import REACTION
from .reaction_diffusion import REACTION_DIFFUSION
from .shallow_water import SHALLOW_WATER
from .shock_pipe import SHOCK_PIPE
from .wave import WAVE

GROUP = "fourcaster.equations"
EQUATIONS: dict[str, Equation] = {
    equation.name: equation
    for equation in (
        ADVECTION,
        REACTION,
        REACTION_DIFFUSION,
        BURGERS,
        SHOCK_PIPE,
        ALLEN_CAHN,
        CAHN_HILLIARD,
        WAVE,
        NAVIER_STOKES,
        BAROTROPIC,
        SHALLOW_WATER,
        DARCY,
        HEAT_CONDUCTION,
        HEAT_SINK,
    )
}
ALIASES = {"convection": "advection"}
"""Former names, which old configurations and checkpoints contain."""


def names() -> tuple[str, ...]:
    """Return the names of all equations, those of other packages last."""
    return tuple(dict.fromkeys([*EQUATIONS, *(entry.name for entry in entry_points(group=GROUP))]))


def get(name: str) -> Equation:
    """Return an equation by its name or a former one.

    Raises:
        InputError: there is no such equation, or an entry point does not provide one.
    """
    name = ALIASES.get(name, name)
    if name in EQUATIONS:
        return EQUATIONS[name]
    for entry in entry_points(group=GROUP, name=name):
        equation = entry.load()
        if not isinstance(equation, Equation):
            raise InputError(f"the entry point {entry.value} is no Equation but {type(equation).__name__}")
        return EQUATIONS.setdefault(name, equation)
    known = [*names(), *ALIASES]
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names())}"
    raise InputError(f"no equation {name!r}; {hint}")
