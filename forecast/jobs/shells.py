"""Which commands hand a word to an interpreter, where text of others in that word would be run as code."""

import os
import re
import shutil
from pathlib import Path

_CODE = {
    **dict.fromkeys(
        (
            "sh",
            "bash",
            "dash",
            "zsh",
            "ksh",
            "mksh",
            "ash",
            "rbash",
            "yash",
            "rc",
            "csh",
            "tcsh",
            "fish",
            "elvish",
            "nu",
        ),
        "c",
    ),
    **dict.fromkeys(("busybox", "toybox"), "c"),
    **dict.fromkeys(("python", "pypy", "ipython"), "c"),
    **dict.fromkeys(("perl", "raku"), "eE"),
    **dict.fromkeys(
        ("ruby", "jruby", "lua", "luajit", "julia", "guile", "elixir", "erl", "octave", "ghc", "nim"), "eE"
    ),
    **dict.fromkeys(("node", "nodejs", "deno", "bun"), "ep"),
    **dict.fromkeys(("php", "tclsh", "expect"), "rBEc"),
    **dict.fromkeys(("Rscript", "R"), "ef"),
    **dict.fromkeys(("osascript", "scala", "groovy", "clojure"), "ceE"),
    **dict.fromkeys(("env",), "S"),
}
"""Options, by interpreter, after which comes code."""
_LONG = (
    "--command",
    "--eval",
    "--print",
    "--execute",
    "--expression",
    "--split-string",
    "--init-command",
    "-command",
    "-exec",
    "-execdir",
    "-ok",
)
_EVERYWHERE = {
    *(
        "ssh",
        "rsh",
        "slogin",
        "autossh",
        "mosh",
        "pdsh",
        "clush",
        "pssh",
        "sshpass",
    ),  # whose other end joins the words
    *(
        "su",
        "runuser",
        "watch",
        "parallel",
        "xargs",
        "at",
        "batch",
        "screen",
        "tmux",
        "script",
        "eval",
        "trap",
        "wsl",
        "chroot",
    ),
    *(
        "awk",
        "gawk",
        "mawk",
        "nawk",
        "sed",
        "gsed",
        "jq",
        "yq",
        "make",
        "gmake",
        "m4",
        "bc",
        "dc",
        "ed",
        "ex",
        "vi",
        "vim",
        "emacs",
        "gdb",
    ),
    *("psql", "mysql", "mariadb", "sqlite3", "duckdb", "mongosh", "redis-cli", "xmllint", "gnuplot", "tcsh"),
    *("docker", "podman", "kubectl", "nsenter", "systemd-run", "srun", "sbatch", "qsub", "bsub", "nix-shell"),
    *("pwsh", "powershell", "cmd"),
}
"""Programs whose words are code, or are joined and handed to a shell."""
_WRAPPERS = {
    *(
        "env",
        "sudo",
        "doas",
        "nice",
        "ionice",
        "chrt",
        "taskset",
        "timeout",
        "nohup",
        "setsid",
        "stdbuf",
        "time",
        "flock",
        "unshare",
    ),
    *(
        "strace",
        "ltrace",
        "prlimit",
        "caffeinate",
        "busybox",
        "toybox",
        "command",
        "exec",
        "xvfb-run",
        "dbus-run-session",
        "conda",
        "uv",
    ),
}
"""Programs that run the one that their later words name."""
_REMOTE = re.compile(r"\{\s*error\b|\{[^{}]*\{\s*error\b")


def refuse_code(words: list[str]) -> None:
    """Raise ``ValueError`` where a command puts ``{error}`` into a word that an interpreter runs.

    Args:
        words: the command as the jobs file gives it, with variables of the environment filled in.
    """
    if not any(_holds_error(word) for word in words):
        return
    names = [_name(word) for word in words]
    real = shutil.which(words[0])
    if real is not None:
        names[0:0] = [_name(os.path.realpath(real))]
    programs = (
        names
        if names[0] in _WRAPPERS or names[int(real is not None)] in _WRAPPERS
        else names[: 1 + int(real is not None)]
    )
    if set(programs) & _EVERYWHERE or _takes_code(names, words):
        shown = words[next(i for i, word in enumerate(words) if _holds_error(word))]
        raise ValueError(
            f"{{error}} in {shown[:60]!r} could be run as code by {words[0]}, for it may hold text of others; "
            'write "$FOURCASTER_ERROR" in place of it, an environment variable that the command is given'
        )


def _holds_error(word: str) -> bool:
    return bool(_REMOTE.search(word.replace("{{", "").replace("}}", "")))


def _name(word: str) -> str:
    """Return the name of a program without folder and version: ``python`` for ``/usr/bin/python3.12``."""
    name = Path(word.strip()).name
    return re.sub(r"(?:[-.]?\d[\d.]*)?(?:\.exe)?$", "", name) or name


def _takes_code(names: list[str], words: list[str]) -> bool:
    """Return whether code follows an option, or the text itself would be the script of an interpreter."""
    letters = {letter for name in names for letter in _CODE.get(name, "")}
    interpreted = any(name in _CODE for name in names)
    script = False
    for i, word in enumerate(words):
        before = words[i - 1] if i else ""
        if _holds_error(word) and (
            i == 0 or before in ("-c", "-e", "-E") or before.partition("=")[0] in _LONG
        ):
            return True
        if word.partition("=")[0] in _LONG and interpreted:
            return True
        if re.match(r"[-+][^-]", word) and letters & set(word[1:].partition("=")[0]) and interpreted:
            return True
        if interpreted and not script and i and _holds_error(word) and _name(before) in _CODE:
            return True
        script = script or (i > 0 and not word.startswith("-") and _name(word) not in _CODE)
    return False
