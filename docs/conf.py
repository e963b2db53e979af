"""Configuration of the documentation site; `make docs` builds it into `docs/_build/html`."""

import importlib
import inspect
import os
import re
from typing import Any

from pygments.lexers import BashLexer, IniLexer, PythonLexer, TextLexer, YamlLexer

from fourcaster import __version__

project = "Fourcaster"
author = "The Fourcaster developers"
copyright = author
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"Fourcaster {version}"
html_show_copyright = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# The tutorials are executed at every build, each in a temporary folder; a cell that fails fails the build.
nb_execution_mode = os.environ.get("FOURCASTER_DOCS_EXECUTION", "force")
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_merge_streams = True
nb_execution_show_tb = True

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False

# References within the package must name something that exists (see `without_page`). Those to other projects
# are plain text, since their inventories would need the network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!fourcaster\.).*")]


# Code blocks of the operations guide are labelled with the program that reads them.
LEXERS = {
    "cron": TextLexer,
    "systemd": IniLexer,
    "slurm": BashLexer,
    "airflow": PythonLexer,
    "prefect": PythonLexer,
    "kubernetes": YamlLexer,
}


def skip_inherited(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out members that another package defines, such as ``torch.nn.Module.to``."""
    module = getattr(inspect.unwrap(obj) if callable(obj) else obj, "__module__", None)
    return True if isinstance(module, str) and module.split(".")[0] in {"torch", "pydantic"} else None


def without_page(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Show a reference as plain text where it names an object of the package that has no page of its own."""
    target = str(node.get("reftarget", ""))
    if not target.startswith("fourcaster."):
        return None
    parts = target.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:length]))
            for part in parts[length:]:
                value = getattr(value, part)
        except (ImportError, AttributeError):
            continue
        return contnode
    return None


def escape_markup(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape ``*`` and ``|`` in docstrings, which are operators there and not markup, outside of code."""
    literal: int | None = None  # indentation of the line that introduces a block of code
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        if literal is None and not line.lstrip().startswith((">>>", "...")):
            parts = line.split("``")
            parts[::2] = [re.sub(r"(?<!\\)([*|])", r"\\\1", part) for part in parts[::2]]
            lines[number] = "``".join(parts)
            if line.rstrip().endswith("::"):
                literal = indent


def link_to_pages(app: Any, name: str, source: list[str]) -> None:
    """Let links to files at the root of the repository lead to their pages on the site."""
    pattern = r"\]\(\.\./(SECURITY|CONTRIBUTING|CHANGELOG)\.md"
    source[0] = re.sub(pattern, lambda match: f"]({match[1].lower()}.md", source[0])


def insert_keys(app: Any, name: str, source: list[str]) -> None:
    """Insert the tables of all configuration keys into their page."""
    if name == "configuration":
        from fourcaster.forecast.config.reference import config_tables
        from fourcaster.forecast.tasks.registry import config_classes

        source[0] = source[0].replace("<!-- keys -->", config_tables(config_classes()))


def setup(app: Any) -> None:
    """Connect the hooks above."""
    app.connect("source-read", link_to_pages)
    app.connect("source-read", insert_keys)
    app.connect("autodoc-process-docstring", escape_markup, priority=100)  # before napoleon
    app.connect("autodoc-skip-member", skip_inherited)
    app.connect("missing-reference", without_page)
    for name, lexer in LEXERS.items():
        app.add_lexer(name, lexer)
