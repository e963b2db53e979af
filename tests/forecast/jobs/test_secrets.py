"""Secrets of the environment show in no log line, ledger, page or hook; what steers a terminal is left out."""

import json
import os
import time

import pytest
from jobs_helpers import CYCLES, call, clock

from fourcaster.forecast.jobs.commands import variables
from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.log import Log, clean, mask
from fourcaster.forecast.jobs.output import LINE, record
from fourcaster.forecast.jobs.reading import load_jobs
from fourcaster.forecast.jobs.reports import as_text, page, status
from fourcaster.forecast.jobs.reports import write as write_status
from fourcaster.forecast.jobs.spec import Job, moment

PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\r\nAASCBKcwggSjAgEAAoIBAQC7VJTU\nshort\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def secret(monkeypatch):
    """Return what sets a variable of the environment, all others being plain."""
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
def test_names_that_speak_of_secrets(secret, name):
    secret(name, "hidden-word")
    assert mask("a hidden-word, xhidden-wordx") == "a ***, x***x"


@pytest.mark.parametrize(
    "name", ["PWD", "OLDPWD", "SSH_AUTH_SOCK", "KEYBOARD", "PASSENGERS", "AUTHOR", "COMPASSES", "PINE"]
)
def test_names_that_do_not(secret, name):
    secret(name, "a-plain-word")
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
def test_keys_of_several_lines(secret, text):
    secret("TLS_KEY", PEM)
    assert "MIIEvQ" not in mask(text) and "AASCBK" not in mask(text)


@pytest.mark.parametrize("value", ["1234", "x", "ab1", "p+w", "pa", "5$y^"])
def test_short_values_are_masked_as_words(secret, value):
    secret("PGPASS", value)
    for text in (f"password={value}&user=me", f"({value})", value, f"a {value} b", f'"{value}"'):
        assert (
            mask(text) == text.replace(value, "***", 1)
            if text.count(value) == 1
            else value not in mask(text).split()
        )
    assert mask(f"q{value}q") == f"q{value}q"


@pytest.mark.parametrize("value", ["1", "0", "true", "False", "yes", ""])
def test_switches_hide_nothing(secret, value):
    secret("USE_TOKEN", value)
    assert mask(f"ended with {value}") == f"ended with {value}"


def test_passwords_of_urls_and_connections(secret):
    secret("DATABASE_URL", "postgres://me:p%40ss-word@db/x")
    secret("MY_DSN", "host=db user=me password=other-word")
    assert mask("no p%40ss-word, no p@ss-word, no other-word") == "no ***, no ***, no ***"
    assert (
        mask("at https://you:their@word@host/x, ftp://me@h, s3://b/k")
        == "at https://***@host/x, ftp://***@h, s3://b/k"
    )
    assert mask("http://a:b/c@host") == "http://***@host"


def test_quoted_forms_and_secrets_within_json(secret):
    secret("X_TOKEN", 'se"cr et/\\1')
    text = f"{json.dumps(os.environ['X_TOKEN'])} {os.environ['X_TOKEN']!r} se%22cr%20et%2F%5C1"
    assert "cr" not in mask(text)
    secret(
        "GOOGLE_CREDENTIALS",
        json.dumps({"type": "account", "private_key": PEM, "client": {"secret": "inner-word"}}),
    )
    assert (
        "MIIEvQ" not in mask(PEM) and mask("inner-word") == "***" and mask("type account") == "type account"
    )


def test_masking_is_fast_on_long_texts(secret):
    secret("A_KEY", "hidden-word")
    began = time.monotonic()
    for text in ("a" * 10**6, "://" * 10**5, "x://a:b" * 10**4, "hidden-word" * 10**5):
        mask(text)
    assert time.monotonic() - began < 5


def test_every_field_of_a_record_is_masked_and_printable(secret, tmp_path, capsys):
    secret("A_TOKEN", "hidden-word")
    log = Log(tmp_path / "ledger.sqlite")
    say = log.of("tiny", CYCLES[0])
    say(
        {
            "message": "hidden-word",
            "level": "info",
            "url": "hidden-word",
            "deep": [{"hidden-word": ["a hidden-word\x1b[31m"]}],
        }
    )
    say(message="m\x1b[31m hidden\x1b[0m-word", why={"x": "hidden-word"}, number=float("nan"), thing=tmp_path)
    said = capsys.readouterr().err
    text = log.path("tiny", CYCLES[0]).read_text()
    assert (
        said == text
        and "hidden" not in text.replace("***", "")
        and "\\u001b" not in text
        and text.count("***") >= 5
    )
    assert json.loads(text.splitlines()[0])["data"] == {"url": "***", "deep": [{"***": ["a ***"]}]}


def test_a_secret_at_the_cut_of_a_line_is_not_shown_in_part(secret):
    secret("A_TOKEN", "hidden-word")
    for start in range(LINE - 12, LINE + 1):
        line = b"x" * start + b"hidden-word" + b"y" * 100
        assert "hid" not in record(line, 10**6)["message"]


def test_ledger_status_page_and_hooks_are_masked(secret, write, tmp_path):
    secret("A_TOKEN", "hidden-word")
    path = write(start="2001-02-01")
    jobs, ledger = load_jobs(path), Ledger(tmp_path / "ledger.sqlite")
    ledger.open()
    ledger.insert("tiny", CYCLES[:2], clock()())
    assert ledger.end(
        ledger.claim("tiny", CYCLES[0]), "failed", "by hidden-word\x1b[2J\n<script>", failed=True
    )
    assert ledger.rows()[0].error == "by *** <script>"
    with ledger._file.change() as db:  # as an earlier version left it
        db.execute(
            "UPDATE cycles SET error=?, output=?",
            ("by hidden-word\x1b[2J<script>", "s3://me:other-word@bucket/<b>"),
        )
    found = status(jobs, ledger, clock()())
    write_status(jobs, ledger, clock()())
    texts = [
        json.dumps(found),
        as_text(found),
        page(found, {}),
        *(p.read_text() for p in (tmp_path / "status").iterdir()),
    ]
    assert len(texts) == 6
    for text in texts:
        assert (
            "hidden-word" not in text
            and "other-word" not in text
            and "\x1b" not in text
            and "\\u001b" not in text
        )
    assert "<script>" not in texts[2] and "&lt;script&gt;" in texts[2]
    job = Job(name="a", checkpoint="c", source="s", cycle="0 0 * * *", lead="1d", output="{cycle:%Y}.nc")
    told = variables(job, moment(CYCLES[0]), error=mask("hidden-word"))
    assert told["FOURCASTER_ERROR"] == "***" and told["A_TOKEN"] == "hidden-word"


def test_clean_bounds_what_it_returns():
    value = []
    for _ in range(10**4):
        value = [value]
    assert len(json.dumps(clean(value))) < 100
    assert clean({"a": 10**5000, "b": float("-inf"), "c": "x" * 10**6, "d": {1: None, None: True}})["d"] == {
        "1": None,
        "None": True,
    }
    assert len(json.dumps(clean({"c": "x" * 10**6}))) < 21000


def test_what_a_verb_prints_of_the_ledger_and_logs_is_printable(secret, write, tmp_path):
    secret("A_TOKEN", "hidden-word")
    path = write(start="2001-02-01")
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.open()
    ledger.insert("tiny", CYCLES[:1], clock()())
    ledger.end(ledger.claim("tiny", CYCLES[0]), "failed", "x", failed=True)
    with ledger._file.change() as db:
        db.execute("UPDATE cycles SET error='hidden-word \x1b[2J\x9b31m\u202e'")
    log = Log(tmp_path / "ledger.sqlite").path("tiny", CYCLES[0])
    log.parent.mkdir(parents=True)
    log.write_text('{"message": "hidden-word \x1b[2J\x9b31m\u202e"}\n')
    for words in (("status", path), ("status", path, "--json"), ("logs", path, "tiny")):
        code, said = call(*words)
        assert (
            code == 0
            and "***" in said
            and not set("\x1b\x9b\u202e") & set(said)
            and "hidden-word" not in said
        )
