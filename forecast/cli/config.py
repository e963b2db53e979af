"""The verbs of configurations: config schema, config show, config keys."""

from typing import Annotated

import typer

from .console import Json, Overrides, reported, show

config = typer.Typer(
    help="Describe configurations: their JSON schema, their keys, and a recipe with all defaults.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Task = Annotated[
    str | None,
    typer.Argument(help="weather, pinn, operator, inverse or a task of another package; all by default."),
]


@config.command()
def schema(task: Task = None) -> None:
    """Print the JSON schema of configurations, with which editors complete and check YAML files.

    Example: forecast config schema weather > weather.schema.json
    """
    with reported():
        from ..config.schema import config_schema
        from ..tasks.registry import config_classes

        values = config_schema(config_classes(task))
    show(values, True, "")


@config.command(name="show")
def show_config(
    source: Annotated[
        str, typer.Argument(metavar="CONFIG", help="YAML file, or the name of a packaged recipe.")
    ],
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Print a configuration as it is used: with overrides, and the defaults of all other keys.

    Example: forecast config show ncep_temperature train.epochs=20
    """
    with reported():
        from ..config.source import to_yaml
        from ..tasks.dispatch import load_config

        values, text = to_yaml(load_config(source, overrides or []))
    show(values, as_json, text)


@config.command()
def keys(task: Task = None, as_json: Json = False) -> None:
    """Print every key with type, default, unit and meaning, as tables in Markdown.

    Example: forecast config keys weather
    """
    with reported():
        from ..config.reference import config_keys, config_tables
        from ..tasks.registry import config_classes

        configs = config_classes(task)
        text = config_tables(configs)
        values = [key.to_dict() for name, kind in configs.items() for key in config_keys(name, kind)]
    show(values, as_json, text)
