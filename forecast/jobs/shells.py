"""Refusal of commands in which the text of an error would be run as code.

An error may quote text of a server or a file, so no word that an interpreter runs may contain it.
"""

import os
import re
import shutil
from pathlib import Path


def _names(text: str) -> list[str]:
    return text.split()


_SHELLS = (
    "sh bash dash zsh ksh mksh ash rbash yash rc csh tcsh fish elvish nu busybox toybox python pypy ipython"
)
_CODE_LETTERS = {
    **dict.fromkeys(_names(_SHELLS), "c"),
    **dict.fromkeys(_names("perl raku"), "eE"),
    **dict.fromkeys(_names("ruby jruby lua luajit julia guile elixir erl octave ghc nim"), "eE"),
    **dict.fromkeys(_names("node nodejs deno bun"), "ep"),
    **dict.fromkeys(_names("php tclsh expect"), "rBEc"),
    **dict.fromkeys(_names("Rscript R"), "ef"),
    **dict.fromkeys(_names("osascript scala groovy clojure"), "ceE"),
    "env": "S",
}
"""Letters of the options, by interpreter, after which code follows."""
_CODE_OPTIONS = (
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
_ALWAYS_CODE = {
    # Remote shells, which join the words.
    *_names("ssh rsh slogin autossh mosh pdsh clush pssh sshpass"),
    *_names("su runuser watch parallel xargs at batch screen tmux script eval trap wsl chroot"),
    *_names("awk gawk mawk nawk sed gsed jq yq make gmake m4 bc dc ed ex vi vim emacs gdb"),
    *_names("psql mysql mariadb sqlite3 duckdb mongosh redis-cli xmllint gnuplot tclsh"),
    *_names("docker podman kubectl nsenter systemd-run srun sbatch qsub bsub nix-shell"),
    *_names("pwsh powershell cmd"),
}
"""Programs whose words are code, or are joined and passed to a shell."""
_WRAPPERS = {
    *_names(
        "env sudo doas nice ionice chrt taskset timeout nohup setsid stdbuf time flock unshare strace ltrace"
    ),
    *_names("prlimit caffeinate busybox toybox command exec xvfb-run dbus-run-session conda uv"),
}
"""Programs that run the one that their later words name."""
_ERROR_FIELD = re.compile(r"\{\s*error\b|\{[^{}]*\{\s*error\b")


def refuse_code(words: list[str]) -> None:
    """Raise ``ValueError`` where a command puts ``{error}`` into a word that an interpreter runs.

    Args:
        words: the command as the jobs file has it, with environment variables filled in.
    """
    if not any(_contains_error(word) for word in words):
        return
    names = [_program_name(word) for word in words]
    candidates = names[:1]
    executable = shutil.which(words[0])
    if executable is not None:  # a link may give a shell another name
        target = _program_name(os.path.realpath(executable))
        names.insert(0, target)
        candidates = [target, *candidates]
    programs = names if _WRAPPERS & set(candidates) else candidates
    if set(programs) & _ALWAYS_CODE or _takes_code(names, words):
        word = next(word for word in words if _contains_error(word))
        raise ValueError(
            f"{{error}} in {word[:60]!r} could be run as code by {words[0]}, "
            "since it may contain text of other programs; "
            'write "$FOURCASTER_ERROR" in place of it, an environment variable of the command'
        )


def _contains_error(word: str) -> bool:
    return bool(_ERROR_FIELD.search(word.replace("{{", "").replace("}}", "")))


def _program_name(word: str) -> str:
    """Return the name of a program without folder and version: ``python`` for ``/usr/bin/python3.12``."""
    name = Path(word.strip()).name
    return re.sub(r"(?:[-.]?\d[\d.]*)?(?:\.exe)?$", "", name) or name


def _takes_code(names: list[str], words: list[str]) -> bool:
    """Return whether code follows an option, or the error itself would be the script of an interpreter."""
    letters = {letter for name in names for letter in _CODE_LETTERS.get(name, "")}
    interpreted = any(name in _CODE_LETTERS for name in names)
    script_seen = False
    for i, word in enumerate(words):
        previous = words[i - 1] if i else ""
        contains_error = _contains_error(word)
        if contains_error and (
            i == 0 or previous in ("-c", "-e", "-E") or previous.partition("=")[0] in _CODE_OPTIONS
        ):
            return True
        if word.partition("=")[0] in _CODE_OPTIONS and interpreted:
            return True
        if re.match(r"[-+][^-]", word) and letters & set(word[1:].partition("=")[0]) and interpreted:
            return True
        if (
            interpreted
            and not script_seen
            and i
            and contains_error
            and _program_name(previous) in _CODE_LETTERS
        ):
            return True
        script_seen = script_seen or (
            i > 0 and not word.startswith("-") and _program_name(word) not in _CODE_LETTERS
        )
    return False
