"""Secrets of the environment and control characters never reach logs, ledger, status page or hooks."""

import json
import os
import time

import pytest
from jobs_helpers import CYCLES, call, clock

from fourcaster.forecast.jobs.commands import HookEvent, hook_environment
from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.load import load_jobs
from fourcaster.forecast.jobs.log import Log
from fourcaster.forecast.jobs.masking import clean, mask
from fourcaster.forecast.jobs.spec import Job
from fourcaster.forecast.jobs.states import CycleState
from fourcaster.forecast.jobs.status import format_table, read_status
from fourcaster.forecast.jobs.status_page import render
from fourcaster.forecast.jobs.status_page import write as write_page
from fourcaster.forecast.jobs.times import parse_time
from fourcaster.forecast.jobs.worker_output import LINE_BYTES, parse_line

PEM = (
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\r\n"
    "AASCBKcwggSjAgEAAoIBAQC7VJTU\nshort\n-----END PRIVATE KEY-----\n"
)


@pytest.fixture
def set_secret(monkeypatch):
    """Return a function that sets an environment variable; all others that are secret are removed."""
    for name in list(os.environ):
        if mask(os.environ[name]) != os.environ[name]:
            monkeypatch.delenv(name)
    return monkeypatch.setenv


SECRET_NAMES = [
    "API_KEY",
    "APIKEY",
    "SSHKEY",
    "AWS_SECRET_ACCESS_KEY",
    "GITHUB_TOKEN",
    "MY_SECRET",
    "PGPASS",
    "PGPASSWORD",
    "DB_PASS",
    "MYSQL_PWD",
    "ROOT_PASSWD",
    "KEY_PASSPHRASE",
    "passphrase",
    "GOOGLE_CREDENTIALS",
    "CREDENTIAL",
    "HTTP_AUTH",
    "AUTHORIZATION",
    "AZURE_STORAGE_CONNECTION_STRING",
    "KEYS",
    "KEY1",
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_values_of_secret_variables_are_masked(set_secret, name):
    set_secret(name, "hidden-word")
    assert mask("a hidden-word, xhidden-wordx") == "a ***, x***x"


@pytest.mark.parametrize(
    "name", ["PWD", "OLDPWD", "SSH_AUTH_SOCK", "KEYBOARD", "PASSENGERS", "AUTHOR", "COMPASSES", "PINE"]
)
def test_values_of_other_variables_are_not_masked(set_secret, name):
    set_secret(name, "a-plain-word")
    assert mask("a-plain-word") == "a-plain-word"


@pytest.mark.parametrize(
    "text",
    [
        PEM,
        PEM.replace("\r", ""),
        " ".join(PEM.split()),
        json.dumps(PEM),
        repr(PEM),
        "curl: MIIEvQIBADANBgkqhkiG9w0BAQEF!",
    ],
)
def test_multiline_keys_are_masked(set_secret, text):
    set_secret("TLS_KEY", PEM)
    assert "MIIEvQ" not in mask(text)
    assert "AASCBK" not in mask(text)


@pytest.mark.parametrize("value", ["1234", "x", "ab1", "p+w", "pa", "5$y^"])
def test_short_values_are_masked_as_whole_words(set_secret, value):
    set_secret("PGPASS", value)
    for text in (f"password={value}&user=me", f"({value})", value, f"a {value} b", f'"{value}"'):
        if text.count(value) == 1:
            assert mask(text) == text.replace(value, "***", 1)
        else:
            assert value not in mask(text).split()
    assert mask(f"q{value}q") == f"q{value}q"


@pytest.mark.parametrize("value", ["1", "0", "true", "False", "yes", ""])
def test_boolean_values_are_not_masked(set_secret, value):
    set_secret("USE_TOKEN", value)
    assert mask(f"ended with {value}") == f"ended with {value}"


def test_passwords_in_urls_and_connection_strings_are_masked(set_secret):
    set_secret("DATABASE_URL", "postgres://me:p%40ss-word@db/x")
    set_secret("MY_DSN", "host=db user=me password=other-word")
    assert mask("no p%40ss-word, no p@ss-word, no other-word") == "no ***, no ***, no ***"
    text = "at https://you:their@word@host/x, ftp://me@h, s3://b/k"
    assert mask(text) == "at https://***@host/x, ftp://***@h, s3://b/k"
    assert mask("http://a:b/c@host") == "http://***@host"


def test_escaped_secrets_and_secrets_within_json_are_masked(set_secret):
    set_secret("X_TOKEN", 'se"cr et/\\1')
    text = f"{json.dumps(os.environ['X_TOKEN'])} {os.environ['X_TOKEN']!r} se%22cr%20et%2F%5C1"
    assert "cr" not in mask(text)
    set_secret(
        "GOOGLE_CREDENTIALS",
        json.dumps({"type": "account", "private_key": PEM, "client": {"secret": "inner-word"}}),
    )
    assert "MIIEvQ" not in mask(PEM)
    assert mask("inner-word") == "***"
    assert mask("type account") == "type account"


def test_masking_is_fast_on_long_texts(set_secret):
    set_secret("A_KEY", "hidden-word")
    started = time.monotonic()
    for text in ("a" * 10**6, "://" * 10**5, "x://a:b" * 10**4, "hidden-word" * 10**5):
        mask(text)
    assert time.monotonic() - started < 5


def test_every_field_of_a_log_record_is_masked_and_printable(set_secret, tmp_path, capsys):
    set_secret("A_TOKEN", "hidden-word")
    log = Log(tmp_path / "ledger.sqlite")
    write_line = log.for_cycle("tiny", CYCLES[0])
    write_line(
        {
            "message": "hidden-word",
            "level": "info",
            "url": "hidden-word",
            "deep": [{"hidden-word": ["a hidden-word\x1b[31m"]}],
        }
    )
    message = "m\x1b[31m hidden\x1b[0m-word"
    write_line(message=message, reason={"x": "hidden-word"}, number=float("nan"), path=tmp_path)
    text = log.path("tiny", CYCLES[0]).read_text()
    assert capsys.readouterr().err == text
    assert "hidden" not in text.replace("***", "")
    assert "\\u001b" not in text
    assert text.count("***") >= 5
    assert json.loads(text.splitlines()[0])["data"] == {"url": "***", "deep": [{"***": ["a ***"]}]}


def test_secret_at_a_truncation_point_is_not_partly_shown(set_secret):
    set_secret("A_TOKEN", "hidden-word")
    for start in range(LINE_BYTES - 12, LINE_BYTES + 1):
        line = b"x" * start + b"hidden-word" + b"y" * 100
        assert "hid" not in parse_line(line, 10**6)["message"]


def test_ledger_status_page_and_hooks_are_masked(set_secret, write_jobs, tmp_path):
    set_secret("A_TOKEN", "hidden-word")
    path = write_jobs(start="2001-02-01")
    jobs = load_jobs(path)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.open()
    ledger.insert("tiny", CYCLES[:2], clock()())
    claimed = ledger.claim("tiny", CYCLES[0])
    assert ledger.end(claimed, CycleState.FAILED, "by hidden-word\x1b[2J\n<script>", failed=True)
    assert ledger.records()[0].error == "by *** <script>"
    with ledger._database.transaction() as db:  # as written by an earlier version
        db.execute(
            "UPDATE cycles SET error=?, output=?",
            ("by hidden-word\x1b[2J<script>", "s3://me:other-word@bucket/<b>"),
        )
    status = read_status(jobs, ledger, clock()())
    write_page(jobs, ledger, clock()())
    texts = [
        json.dumps(status.to_dict()),
        format_table(status),
        render(status, {}),
        *(p.read_text() for p in (tmp_path / "status").iterdir()),
    ]
    assert len(texts) == 6
    for text in texts:
        for hidden in ("hidden-word", "other-word", "\x1b", "\\u001b"):
            assert hidden not in text
    assert "<script>" not in texts[2]
    assert "&lt;script&gt;" in texts[2]
    job = Job(name="a", checkpoint="c", source="s", cycle="0 0 * * *", lead="1d", output="{cycle:%Y}.nc")
    event = HookEvent(error=mask("hidden-word"))
    environment = hook_environment(job, parse_time(CYCLES[0]), event)
    assert environment["FOURCASTER_ERROR"] == "***"
    assert environment["A_TOKEN"] == "hidden-word"


def test_clean_bounds_the_size_of_its_result():
    value = []
    for _ in range(10**4):
        value = [value]
    assert len(json.dumps(clean(value))) < 100
    assert clean({"a": 10**5000, "b": float("-inf"), "c": "x" * 10**6, "d": {1: None, None: True}})["d"] == {
        "1": None,
        "None": True,
    }
    assert len(json.dumps(clean({"c": "x" * 10**6}))) < 21000


def test_commands_print_no_secrets_and_no_control_characters(set_secret, write_jobs, tmp_path):
    set_secret("A_TOKEN", "hidden-word")
    path = write_jobs(start="2001-02-01")
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.open()
    ledger.insert("tiny", CYCLES[:1], clock()())
    ledger.end(ledger.claim("tiny", CYCLES[0]), CycleState.FAILED, "x", failed=True)
    with ledger._database.transaction() as db:
        db.execute("UPDATE cycles SET error='hidden-word \x1b[2J\x9b31m\u202e'")
    log = Log(tmp_path / "ledger.sqlite").path("tiny", CYCLES[0])
    log.parent.mkdir(parents=True)
    log.write_text('{"message": "hidden-word \x1b[2J\x9b31m\u202e"}\n')
    for args in (("status", path), ("status", path, "--json"), ("logs", path, "tiny")):
        code, output = call(*args)
        assert code == 0
        assert "***" in output
        assert not set("\x1b\x9b\u202e") & set(output)
        assert "hidden-word" not in output


def test_overlapping_secrets_are_masked_as_a_whole(set_secret):
    set_secret("A_TOKEN", "abcdefgh")
    set_secret("B_TOKEN", "efghijkl")
    assert mask("x abcdefghijkl y") == "x *** y"
    assert mask("abcdefgh, efghijkl") == "***, ***"
