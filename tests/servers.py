"""Loopback servers: S3 in a subprocess, and a file server or proxy that fails, stalls and truncates."""

import http.client
import random
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class UnreliableHandler(BaseHTTPRequestHandler):
    """Forward requests to another server or serve files, and corrupt some of the responses."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.respond(True)

    def do_HEAD(self):
        self.respond(False)

    do_PUT = do_POST = do_DELETE = do_GET

    def respond(self, body):
        state = self.server.state
        with state["lock"]:
            state["asked"].append(self.path)
            state["signatures"].append(self.headers.get("Authorization", ""))
            draw = state["random"].random()
        status, headers, content = self.fetch()
        if draw < state["fails"]:
            failure = int(draw / state["fails"] * 3)
            if failure == 0:
                status, headers, content = 503, {}, b"busy"
            elif failure == 1:
                time.sleep(state["stall"])
        state["sent"].append(len(content))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            truncated = draw < state["fails"] and int(draw / state["fails"] * 3) == 2
            self.wfile.write(content[: len(content) // 2] if truncated else content)
            if truncated:
                self.close_connection = True

    def fetch(self):
        state = self.server.state
        if state["upstream"]:
            connection = http.client.HTTPConnection("127.0.0.1", state["upstream"])
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection.request(self.command, self.path, sent or None, headers=dict(self.headers))
            response = connection.getresponse()
            passed_on = {
                k: v
                for k, v in response.getheaders()
                if k.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server")
            }
            content = response.read()
            connection.close()
            return response.status, passed_on, content
        path = state["folder"] / self.path.lstrip("/")
        if not path.is_file():
            return 404, {}, b""
        content, headers, span = (
            path.read_bytes(),
            {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"},
            self.headers.get("Range"),
        )
        if span is None:
            return 200, headers, content
        first, last = span.removeprefix("bytes=").split("-")
        low, high = (
            (len(content) - int(last), len(content))
            if not first
            else (int(first), min(len(content), int(last or len(content)) + 1))
        )
        return 206, headers | {"Content-Range": f"bytes {low}-{high - 1}/{len(content)}"}, content[low:high]


def serve(folder=None, upstream=0, fails=0.0, seed=0):
    server = ThreadingHTTPServer(("127.0.0.1", 0), UnreliableHandler)
    server.daemon_threads = True
    server.state = {
        "folder": folder,
        "upstream": upstream,
        "fails": fails,
        "stall": 3.0,
        "random": random.Random(seed),
        "lock": threading.Lock(),
        "asked": [],
        "signatures": [],
        "sent": [],
    }
    threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True).start()
    return server


def stop(server):
    server.shutdown()
    server.server_close()


@contextmanager
def s3_server():
    """Yield the port of an S3 server and a client of it."""
    import boto3

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield (
            port,
            boto3.client(
                "s3",
                endpoint_url=f"http://127.0.0.1:{port}",
                region_name="us-east-1",
                aws_access_key_id="known",
                aws_secret_access_key="hidden-word",
            ),
        )
    finally:
        process.terminate()
        process.wait()


def credentials(monkeypatch, port):
    """Set the S3 endpoint and the access key in the environment."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "known",
        "AWS_SECRET_ACCESS_KEY": "hidden-word",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }.items():
        monkeypatch.setenv(name, value)
