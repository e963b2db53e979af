"""Progress display and text output."""

import io
import sys

from fourcaster.forecast.cli.display import Display, describe, score_table


def test_progress_is_plain_lines_without_a_terminal(capsys):
    with Display() as display:
        show = display.stage("train")
        for i in range(100):
            show(i + 1, 100, "working")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("train 1%:") and lines[-1] == "train 100%: working" and len(lines) <= 11


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Display() as display:
        show = display.stage("verify")
        show(1, 2, "half")
        show(2, 2, "done")
    assert "verify" in terminal.getvalue() and "100%" in terminal.getvalue()


def test_disabled_display_prints_nothing(capsys):
    with Display(enabled=False) as display:
        display.stage("x")(1, 1, "y")
    assert capsys.readouterr().err == ""


def test_score_tables_and_descriptions_are_formatted():
    errors = {"forecast": 1.0, "persistence": 2.0, "damped_persistence": 1.25, "climatology": 3.0}
    row = {
        "variable": "t",
        "level": 850,
        "units": "K",
        "lead_hours": 6.0,
        "rmse": errors,
        "acc": 0.9,
        "skill": 0.2,
    }
    table = score_table([row | {"lead_hours": 0.0, "skill": None}, row])
    assert "RMSE of t 850 hPa [K]" in table and "20.0 %" in table and "      -" in table
    assert (
        describe({"a": 1, "b": {"c": [1, 2]}, "d": ["x", "y", "z"]})
        == "a: 1\nb:\n  c: 1, 2\nd:\n  x\n  y\n  z"
    )
