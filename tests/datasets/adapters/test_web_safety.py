"""Untrusted web servers, and caches and samples in folders that other users can write to."""

import hashlib
import logging
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import zarr
from servers import serve, stop

from fourcaster.datasets import sample
from fourcaster.datasets.adapters.opening import open_lazily
from fourcaster.datasets.adapters.private import private_folder
from fourcaster.datasets.adapters.remote import DiskCache, open_source
from fourcaster.datasets.errors import UntrustedDataError


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FOURCASTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FOURCASTER_TIMEOUT", "2")
    monkeypatch.setattr("fourcaster.datasets.adapters.remote.TRIES", 2)


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.requests.append(self.path)
        self.server.answer(self)


@pytest.fixture
def server():
    """Return a function that starts a web server with the given response."""
    started = []

    def start(answer):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.requests, server.answer = [], answer
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        started.append(server)
        return server

    yield start
    for each in started:
        stop(each)


def send(handler, body, status=200, **headers):
    handler.send_response(status)
    for name, value in ({"Content_Length": len(body)} | headers).items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(body)


def get(server, key="zarr.json"):
    source = open_source(f"http://127.0.0.1:{server.server_port}/a.zarr")
    value = zarr.core.sync.sync(source.get(key))
    return None if value is None else value.to_bytes()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("key", ["zarr.json", ".zmetadata", "air/c/0"])
def test_redirects_to_another_port_are_rejected(server, status, key):
    inside = server(lambda handler: send(handler, b"{}"))
    outside = server(
        lambda handler: send(handler, b"", status, Location=f"http://127.0.0.1:{inside.server_port}/secret")
    )
    with pytest.raises(
        UntrustedDataError, match=f"redirects to another host or port, http://127.0.0.1:{inside.server_port};"
    ):
        get(outside, key)
    assert not inside.requests


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:{port}/x",
        "https://127.0.0.1:{port}/x",
        "//other.example/x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
    ],
)
def test_redirects_to_another_host_or_scheme_are_rejected(server, location):
    here = server(
        lambda handler: send(handler, b"", 302, Location=location.format(port=handler.server.server_port))
    )
    with pytest.raises(UntrustedDataError, match="another host or port"):
        get(here)
    assert len(here.requests) == 1


def test_a_rejected_redirect_shows_no_password(server):
    here = server(lambda handler: send(handler, b"", 302, Location="http://me:hidden-word@other.example/x"))
    with pytest.raises(UntrustedDataError, match=r"http://other\.example;") as caught:
        open_lazily(f"http://127.0.0.1:{here.server_port}/a.zarr")
    assert "hidden-word" not in str(caught.value)


def test_redirects_on_the_same_server_are_followed_up_to_a_limit(server):
    def answer(handler):
        if handler.path.startswith("/a.zarr/loop"):
            send(handler, b"", 302, Location="/a.zarr/loop/0")
        elif handler.path.startswith("/a.zarr"):
            send(handler, b"", 302, Location="/b" + handler.path)
        else:
            send(handler, b"{}")

    here = server(answer)
    assert get(here) == b"{}"
    with pytest.raises(OSError, match="could not be read in"):
        get(here, "loop/0")


def test_responses_are_read_up_to_their_needed_size(server):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(2**16))
        except OSError:
            pass

    for answer in (endless, lambda handler: send(handler, b"", Content_Length=10**12)):
        with pytest.raises(UntrustedDataError, match="but can need 16 MiB at most"):
            get(server(answer))


def test_a_slow_server_times_out(server, monkeypatch):
    monkeypatch.setattr("fourcaster.datasets.adapters.remote.TRIES", 1)
    monkeypatch.setenv("FOURCASTER_TIMEOUT", "0.5")

    def trickle(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b" ")
                time.sleep(0.05)
        except OSError:
            pass

    started = time.monotonic()
    with pytest.raises(OSError, match=r"too slowly|timed out"):
        get(server(trickle))
    assert time.monotonic() - started < 5


def test_netrc_credentials_are_not_sent(server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hidden-word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen = []

    def answer(handler):
        seen.append(handler.headers.get("Authorization"))
        send(handler, b"{}")

    assert get(server(answer)) == b"{}" and seen == [None]


def test_invalid_responses_are_errors(server):
    for status, reason in {403: "access denied", 500: "could not be read"}.items():
        with pytest.raises(OSError, match=reason):
            get(server(lambda handler, status=status: send(handler, b"", status)))
    with pytest.raises(OSError, match="could not be read"):
        get(server(lambda handler: send(handler, b"x", Content_Encoding="gzip")))
    assert get(server(lambda handler: send(handler, b"", 404))) is None


def test_the_cache_is_private(tmp_path):
    cache = DiskCache(tmp_path / "c", 10_000)
    cache.put("a", b"value")
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    assert [p.stat().st_mode & 0o777 for p in (tmp_path / "c").iterdir()] == [0o600]
    os.chmod(tmp_path / "c", 0o770)
    assert (
        DiskCache(tmp_path / "c", 10_000).get("a") == b"value"
        and (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    )


@pytest.mark.parametrize("kind", ["writable", "link", "above", "file"])
def test_a_cache_writable_by_others_is_not_used(tmp_path, monkeypatch, caplog, kind):
    folder = tmp_path / "shared" / "remote"
    folder.parent.mkdir()
    if kind == "link":
        (tmp_path / "real").mkdir()
        folder.symlink_to(tmp_path / "real")
    elif kind == "file":
        folder.write_text("")
    else:
        folder.mkdir()
        os.chmod(folder if kind == "writable" else folder.parent, 0o777)
    monkeypatch.setenv("FOURCASTER_CACHE", str(folder.parent))
    with pytest.raises(ValueError, match="cannot be used to cache downloads"):
        DiskCache(folder, 10_000)
    with caplog.at_level(logging.WARNING):
        assert DiskCache.of_user() is None
    assert "chunks are not cached. Set FOURCASTER_CACHE to a private folder" in caplog.text


def test_a_cache_of_another_user_is_not_used(tmp_path, monkeypatch):
    (tmp_path / "c").mkdir(mode=0o755)
    monkeypatch.setattr("os.geteuid", lambda: os.stat(tmp_path).st_uid + 1)
    assert private_folder(tmp_path / "c") == "it belongs to another user"


def entry_of(folder, name):
    return folder / hashlib.sha256(name.encode()).hexdigest()


def test_planted_cache_entries_are_fetched_again(tmp_path):
    cache = DiskCache(tmp_path / "c", 100_000)
    other = tmp_path / "other"
    cache.put("a", b"of a")
    other.write_bytes(entry_of(tmp_path / "c", "a").read_bytes())
    plants = {
        "renamed": lambda path: path.write_bytes(other.read_bytes()),
        "checksum of the bytes alone": lambda path: path.write_bytes(
            hashlib.sha256(b"bad").digest() + b"bad"
        ),
        "link": lambda path: path.symlink_to(other),
        "pipe": os.mkfifo,
        "folder": Path.mkdir,
        "empty": Path.touch,
        "damaged": lambda path: path.write_bytes(entry_of(tmp_path / "c", "a").read_bytes()[:-1] + b"x"),
    }
    for name, plant in plants.items():
        plant(entry_of(tmp_path / "c", name))
        assert cache.get(name) is None, name
        if name != "folder":
            cache.put(name, b"right")
            assert cache.get(name) == b"right", name
    assert cache.get("a") == b"of a" and other.exists()


def test_links_in_place_of_temporary_files_are_not_followed(tmp_path):
    cache = DiskCache(tmp_path / "c", 100_000)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = entry_of(tmp_path / "c", "a")
    for name in (path.name, f"{path.name}.{os.getpid()}.tmp", f"{path.name}.tmp"):
        (tmp_path / "c" / name).symlink_to(victim)
    cache.put("a", b"value")
    assert victim.read_text() == "mine" and cache.get("a") == b"value" and not path.is_symlink()


def test_processes_may_evict_and_read_at_the_same_time(tmp_path):
    caches = [DiskCache(tmp_path / "c", 20_000) for _ in range(4)]
    errors, wrong = [], []

    def work(cache, first):
        try:
            for i in range(300):
                name = str((first + i) % 40)
                cache.put(name, name.encode() * 500)
                value = cache.get(name)
                if value is not None and value != name.encode() * 500:
                    wrong.append(name)
                DiskCache(tmp_path / "c", 20_000)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(cache, 7 * i)) for i, cache in enumerate(caches)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and not wrong
    old = tmp_path / "c" / "abandoned.tmp"
    old.touch()
    os.utime(old, (0, 0))
    DiskCache(tmp_path / "c", 20_000)
    assert not old.exists()


def test_an_invalid_cache_size_is_a_one_line_error(monkeypatch):
    monkeypatch.setenv("FOURCASTER_CACHE_BYTES", "many")
    with pytest.raises(ValueError, match="FOURCASTER_CACHE_BYTES many is not understood"):
        DiskCache.of_user()


@pytest.fixture
def download(tmp_path, monkeypatch):
    """Serve a valid sample, whose checksum is that of its bytes."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / sample.NAME).write_bytes(b"right")
    monkeypatch.setattr(
        sample, "checksum", lambda path: sample.SHA256 if path.read_bytes() == b"right" else "other"
    )
    server = serve(tmp_path / "www")
    yield server, f"http://127.0.0.1:{server.server_port}/{sample.NAME}"
    stop(server)


@pytest.mark.parametrize("kind", ["file", "link", "pipe"])
def test_a_modified_sample_is_fetched_again(tmp_path, download, kind, caplog):
    path = tmp_path / "kept" / sample.NAME
    path.parent.mkdir()
    victim = tmp_path / "victim"
    victim.write_bytes(b"wrong")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(victim)
    else:
        path.write_bytes(b"wrong")
    assert sample.download(download[1], path.parent).read_bytes() == b"right"
    assert "is fetched again" in caplog.text and victim.read_bytes() == b"wrong" and not path.is_symlink()


def test_an_unexpected_download_is_an_error(tmp_path, download, monkeypatch):
    (tmp_path / "www" / sample.NAME).write_bytes(b"wrong")
    monkeypatch.setattr(
        sample,
        "download",
        lambda download_from=sample.download: download_from(download[1], tmp_path / "kept"),
    )
    monkeypatch.delenv("FOURCASTER_SAMPLE", raising=False)
    with pytest.raises(ValueError, match=r"is not the expected field .* use a local file"):
        sample.find_sample(None, tmp_path)
    assert not list((tmp_path / "kept").iterdir())


def test_a_shared_folder_is_not_used_for_the_sample(tmp_path, monkeypatch):
    (tmp_path / "shared").mkdir()
    os.chmod(tmp_path / "shared", 0o777)
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "shared")
    with pytest.raises(OSError, match="cannot keep downloads: other users may write to it"):
        sample.download("http://127.0.0.1:9/")
