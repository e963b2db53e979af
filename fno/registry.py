"""Parts by name: those of this package, entry points of others, those added in Python, ``module:Class``."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from typing import Any, Generic, TypeVar, cast

from .errors import RegistryError
from .references import is_reference, load_reference

T = TypeVar("T")


class Registry(MutableMapping[str, T], Generic[T]):
    """Classes or functions by the name that a configuration uses.

    Another package adds one with an entry in its ``pyproject.toml``::

        [project.entry-points."fourcaster.models"]
        unet = "mypackage.unet:UNet"

    Entry points are listed at the first access and imported when they are first used. In Python,
    ``REGISTRY["unet"] = UNet`` adds one for the current process. A name that is taken is an error.
    ``REGISTRY["mypackage.unet:UNet"]`` needs no entry; see ``references`` for what may be imported.

    Args:
        builtin: those of this package.
        group: group of entry points, e.g. ``fourcaster.models``.
        noun: what one of them is, for messages, e.g. ``model``.
        valid: function that returns whether an object is one.
        expected: what ``valid`` requires, for messages, e.g. ``a subclass of torch.nn.Module``.

    Raises:
        RegistryError: on access or assignment, if a name is taken or what it refers to is not valid.
        KeyError: on access, if there is no such name.
    """

    def __init__(
        self,
        builtin: Mapping[str, T],
        *,
        group: str,
        noun: str,
        valid: Callable[[object], bool] = callable,
        expected: str = "callable",
    ) -> None:
        self.group = group
        self.noun = noun
        self._valid = valid
        self._expected = expected
        self._models = dict(builtin)
        self._entries: dict[str, EntryPoint] | None = None
        self._imported: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if is_reference(name) and name not in self._models:
            self._imported[name] = self._check(name, load_reference(name), name)
            return self._imported[name]
        entries = self._external()
        if name not in self._models:
            if name not in entries:
                raise KeyError(name)
            self._models[name] = self._check(name, entries[name].load(), entries[name].value)
        return self._models[name]

    def __setitem__(self, name: str, part: T) -> None:
        self._check(name, part, repr(part))
        if name in self and _origin(self[name]) != _origin(part):
            raise RegistryError(f"cannot register {part!r}: the name {name!r} is taken")
        self._models[name] = part

    def __delitem__(self, name: str) -> None:
        del self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._models, **self._external()})

    def __len__(self) -> int:
        return len({**self._models, **self._external()})

    def __contains__(self, name: object) -> bool:
        """Return whether a name is registered; a reference ``module:Class`` needs no registration."""
        return name in self._models or name in self._external()

    def offers(self, name: object) -> bool:
        """Return whether a name is registered, or has the form ``module:Class``."""
        return name in self or is_reference(name)

    def find(self, name: str) -> T:
        """Return the part with a name or reference.

        Raises:
            RegistryError: there is none, or it cannot be imported; see ``references``.
        """
        if not self.offers(name):
            raise RegistryError(
                f"there is no {self.noun} {name[:80]!r}; choose one of {', '.join(self)}, or module:Class"
            )
        return self[name]

    def recall(self, name: str) -> T:
        """Return a part as ``find`` does; one that was imported before needs no permission again."""
        return self._imported[name] if name in self._imported else self.find(name)

    def build(self, name: str, /, *arguments: Any, **options: Any) -> Any:
        """Return what a part returns for arguments, after checking the names of the options.

        Args:
            name: name or reference.
            *arguments: arguments that the package passes.
            **options: options of a user.

        Raises:
            RegistryError: no such part, or an option that it does not have.
        """
        part = self.find(name)
        check_options(part, options, f"{self.noun} {name}")
        return cast(Callable[..., Any], part)(*arguments, **options)

    def _check(self, name: str, part: object, source: str) -> T:
        if not self._valid(part):
            raise RegistryError(f"{self.noun} {name!r} ({source}) is not {self._expected}")
        return cast(T, part)

    def _external(self) -> dict[str, EntryPoint]:
        """Return the entry points by name, listed once."""
        if self._entries is None:
            entries: dict[str, EntryPoint] = {}
            for entry in entry_points(group=self.group):
                if entry.name in self._models or entry.name in entries:
                    raise RegistryError(
                        f"entry point {entry.value} of {self.group} uses the name {entry.name!r}, which is "
                        "taken; rename it or remove its package"
                    )
                entries[entry.name] = entry
            self._entries = entries
        return self._entries


def subclass_of(base: type) -> Callable[[object], bool]:
    """Return a function that tests whether an object is a subclass of a class, for ``Registry``."""
    return lambda part: isinstance(part, type) and issubclass(part, base)


def check_options(part: object, options: Mapping[str, Any], owner: str) -> None:
    """Check that a class or function has parameters of these names.

    Args:
        part: class or function.
        options: options by name.
        owner: name of the part, for the message.

    Raises:
        RegistryError: it has no such parameter.
    """
    known = signature(cast(Callable[..., Any], part)).parameters
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return
    for name in options:
        if name not in known:
            raise RegistryError(f"the {owner} has no option {name!r}; it has {', '.join(known) or 'none'}")


def _origin(part: object) -> tuple[str, str]:
    """Return where a class is defined.

    A class of the same origin may replace another, so that a module or notebook cell can be executed again.
    """
    return getattr(part, "__module__", ""), getattr(part, "__qualname__", repr(part))
