"""Run four jobs through a fortnight of accelerated clock while faults are injected, and count what became of
every cycle.

    python benchmarks/soak.py                  # writes benchmarks/results/soak.json, within ten minutes

A service makes the forecasts of four jobs: one whose commands hang or fail, one whose source comes late, one
that publishes to an S3 server, one that draws maps and keeps eight cycles as netCDF. Every few cycles
something is broken on purpose: a worker or the service is killed, a second scheduler races it, the ledger is
held or overwritten, the clock jumps, the S3 server stands still, the disk is full, the source is away.
Meanwhile a reader looks at whatever stands under a final name. In the end each cycle must be done or failed
for a stated cause, each output whole, none published twice.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import boto3
import psutil
import xarray as xr
from soak_setup import START, prepare

from fourcaster.forecast.jobs.buckets import Bucket
from fourcaster.forecast.jobs.places import Folder
from fourcaster.forecast.jobs.scheduler import Scheduler

DAYS = 14
HERE = Path(__file__).parent
FAULTS = (
    "worker killed",
    "scheduler killed",
    "two schedulers",
    "ledger locked",
    "ledger damaged",
    "clock back",
    "clock forward",
    "S3 stands still",
    "source late",
    "command hangs",
    "disk full",
    "command fails",
)
ENDS = {
    "published": "published as",
    "killed": "the process was ended by",
    "the deadline": "took longer than the deadline",
    "no room": "no room",
    "the command": "the prepare command",
    "the bucket": "could not be ",
    "handed back": "handed back",
    "taken from it": "the claim was lost",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=6.0, help="real time that the fortnight takes")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "soak.json")
    parser.add_argument("--keep", type=Path, help="folder to work in and leave")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.once)
        return
    folder = arguments.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = soak(folder, arguments.minutes, arguments.every, arguments.seed)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(0 if result["sound"] else 1)


def clock_of(folder: Path):
    """Return the accelerated clock, which all schedulers read from one file."""

    def now() -> datetime:
        said = json.loads((folder / "clock.json").read_text())
        gone = min((time.time() - said["epoch"]) * said["factor"] + said["offset"], DAYS * 86400)
        return START + timedelta(seconds=gone)

    return now


def set_clock(folder: Path, **values: float) -> None:
    path = folder / "clock.json"
    said = json.loads(path.read_text()) if path.exists() else {"offset": 0.0}
    (folder / "clock.new").write_text(json.dumps(said | values))
    os.replace(folder / "clock.new", path)


def serve(folder: Path, once: bool) -> None:
    scheduler = Scheduler(folder / "jobs.yaml", clock_of(folder))
    signal.signal(signal.SIGTERM, lambda *_: scheduler.stop())
    scheduler.run(stay=not once)


class Service:
    """The scheduler's process, which is started again whenever it is gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = self._start()

    def _start(self, *more: str) -> subprocess.Popen:
        with open(self.folder / "service.log", "a") as log:
            return subprocess.Popen(
                [sys.executable, __file__, "--serve", str(self.folder), *more], stderr=log, stdout=log
            )

    def kill(self) -> None:
        """Kill it and start it again."""
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def second(self) -> None:
        """Let another scheduler make what is due."""
        self._start("--once").wait()

    def attempts(self) -> list[psutil.Process]:
        """The processes that make a forecast now: children of the fork server."""
        with suppress(psutil.Error):
            return [
                p
                for child in psutil.Process(self.process.pid).children()
                if "forkserver" in " ".join(child.cmdline())
                for p in child.children()
            ]
        return []

    def ended(self) -> bool:
        """Whether the service ended by itself, which it should not."""
        if self.process.poll() is None:
            return False
        self.process = self._start()
        return True


class Reader(threading.Thread):
    """Looks at everything under a final name, as those do who wait for a forecast."""

    def __init__(self, folder: Path, bucket: Bucket) -> None:
        super().__init__(daemon=True)
        self.folder, self.bucket = folder, bucket
        self.seen: dict[str, set[str]] = {}
        self.broken: list[str] = []
        self.done = threading.Event()

    def run(self) -> None:
        """Look until it is done."""
        while not self.done.wait(0.5):
            self.look()

    def look(self) -> None:
        """Look at each output that was not seen yet, and at what ``latest`` points to."""
        for home in (self.folder / "out").glob("*"):
            for output in [p for p in home.glob("2*") if len(p.suffixes) == 1 and p.suffix != ".png"]:
                with suppress(FileNotFoundError):
                    self._found(
                        Folder(home),
                        output.name,
                        f"{home.name}/{output.name}",
                        str(output.stat().st_ino),
                        output.exists,
                    )
            with suppress(FileNotFoundError):
                xr.open_dataset((home / "latest").resolve(strict=True), decode_timedelta=True).close()
        with suppress(OSError):  # the server stands still
            for name, said in self.bucket.manifests():
                self._found(self.bucket, name, f"bucket/{name}", said["made"], lambda: True)

    def _found(self, place: Folder | Bucket, name: str, key: str, mark: str, there) -> None:
        known = self.seen.setdefault(key, set())
        if mark not in known:
            try:
                if not place.whole(name) and there():
                    self.broken.append(key)
            except OSError:
                return
            known.add(mark)


def inject(kind: str, folder: Path, service: Service, server: subprocess.Popen, rng: random.Random) -> None:
    """Break something."""
    if kind == "worker killed":
        found = []
        for _ in range(40):
            if found := service.attempts():
                break
            time.sleep(0.05)
        if found:
            with suppress(psutil.Error):
                rng.choice(found).kill()
    elif kind == "scheduler killed":
        service.kill()
    elif kind == "two schedulers":
        threading.Thread(target=service.second, daemon=True).start()
    elif kind == "ledger locked":
        with suppress(sqlite3.Error):
            db = sqlite3.connect(
                f"{(folder / 'ledger.sqlite').absolute().as_uri()}?mode=rw",
                timeout=10,
                isolation_level=None,
                uri=True,
            )
            db.execute("BEGIN EXCLUSIVE")
            time.sleep(2)
            db.close()
    elif kind == "ledger damaged":
        with open(folder / "ledger.sqlite", "r+b") as file:
            file.write(rng.randbytes(4096))
    elif kind.startswith("clock"):
        set_clock(folder, offset=-43200.0 if kind == "clock back" else 32400.0)
        time.sleep(1.5)
        set_clock(folder, offset=0.0)
    elif kind == "S3 stands still":
        server.send_signal(signal.SIGSTOP)
        time.sleep(rng.choice([2, 6]))
        server.send_signal(signal.SIGCONT)
    elif kind == "source late":
        if not (folder / "late.zarr").is_symlink():
            return
        os.rename(folder / "late.zarr", folder / "away.zarr")
        threading.Timer(
            rng.choice([3, 8, 25]), lambda: os.replace(folder / "away.zarr", folder / "late.zarr")
        ).start()
    else:
        fault = {"command hangs": "hangs", "disk full": "full", "command fails": "fails"}[kind]
        name = "hanging" if fault == "hangs" else rng.choice(["hanging", "bucket", "maps"])
        (folder / f"fault-{name}").write_text(fault + "\n")


def soak(folder: Path, minutes: float, every: float, seed: int) -> dict:
    began, rng = time.monotonic(), random.Random(seed)
    prepare(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "soak",
        "AWS_SECRET_ACCESS_KEY": "soaking-wet",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "FOURCASTER_TIMEOUT": "1",
    }
    faults: Counter[str] = Counter()
    ended_by_itself = 0
    service = None
    try:
        for _ in range(100):
            with suppress(Exception):
                boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}").create_bucket(Bucket="soak")
                break
            time.sleep(0.2)
        set_clock(folder, epoch=time.time(), factor=DAYS * 86400 / (60 * minutes))
        service, reader = Service(folder), Reader(folder, Bucket("s3://soak/out/bucket", folder))
        reader.start()
        while not (
            folder / "ledger.sqlite"
        ).exists():  # what is broken before it is there is none of its faults
            time.sleep(0.2)
            ended_by_itself += service.ended()
        set_clock(folder, epoch=time.time())
        queue: list[str] = []
        while clock_of(folder)() < START + timedelta(days=DAYS):
            time.sleep(every * rng.uniform(0.5, 1.5))
            ended_by_itself += service.ended()
            queue = queue or rng.sample(FAULTS, len(FAULTS))  # each as often as the others
            kind = queue.pop()
            inject(kind, folder, service, server, rng)
            faults[kind] += 1
        service.process.terminate()
        code = service.process.wait()
        while (folder / "away.zarr").is_symlink():
            time.sleep(0.2)
        for fault in folder.glob("fault-*"):
            fault.unlink()
        last = Scheduler(folder / "jobs.yaml", clock_of(folder))
        last.run(until_ended=True)
        reader.done.set()
        reader.join()
        reader.look()
        return summary(folder, last, reader, faults, ended_by_itself, code) | {
            "seconds": round(time.monotonic() - began, 1),
            "seed": seed,
        }
    finally:
        for process in (server, *([service.process] if service else [])):
            process.kill()
            process.wait()


def summary(
    folder: Path, last: Scheduler, reader: Reader, faults: Counter, ended_by_itself: int, code: int
) -> dict:
    """Count the states, and hold the ledger against what is published."""
    rows = last.ledger.rows()
    states = Counter(row.state for row in rows)
    expected = 4 * (4 * DAYS + 1)
    causes = Counter(
        " ".join((row.error or "no cause").replace(str(folder), "").split()[:6])
        for row in rows
        if row.state == "failed"
    )
    bad = []
    for row in rows:
        name = f"{datetime.fromisoformat(row.cycle):%Y%m%dT%H}" + (".nc" if row.job == "maps" else ".zarr")
        place = reader.bucket if row.job == "bucket" else Folder(folder / "out" / row.job)
        whole = place.whole(name, row.checksum if row.state == "done" else None)
        if (row.state == "done") != bool(whole):
            bad.append(f"{row.job} {row.cycle} {row.state}")
    twice = [key for key, marks in reader.seen.items() if len(marks) > 1]
    left = [str(p) for p in folder.rglob("*.replaced")] + [
        str(p) for home in (folder / "out").glob("*/.making") for p in home.iterdir()
    ]
    told = {
        (path.name.removeprefix("told-"), *line.split()[::-1])
        for path in folder.glob("told-*")
        for line in path.read_text().splitlines()
    }
    ended = {
        (
            row.job,
            f"{datetime.fromisoformat(row.cycle):%Y%m%dT%H}",
            "failed" if row.state == "failed" else "done",
        )
        for row in rows
    }
    logs = [
        json.loads(line)
        for path in (folder / "logs").rglob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    result = {
        "cycles": len(rows),
        "expected": expected,
        "states": dict(states),
        "causes of failure": dict(causes),
        "faults": dict(faults),
        "faults in all": faults.total(),
        "attempts": sum(line["message"].startswith(("begins", "taken over")) for line in logs),
        "what ended attempts": {
            said: sum(part in line["message"] for line in logs) for said, part in ENDS.items()
        },
        "taken over": sum(line["message"].startswith("taken over") for line in logs),
        "ledgers put aside": len(list(folder.glob("ledger.sqlite.corrupt-*"))),
        "outputs seen by the reader": len(reader.seen),
        "outputs seen broken": reader.broken,
        "published twice": twice,
        "done without a whole output, or the reverse": bad,
        "ended, but not told": sorted(map(str, ended - told)),
        "verified": sum(row.verified is not None for row in rows),
        "left over": left,
        "service ended by itself": ended_by_itself,
    }
    sound = (
        len(rows) == expected
        and set(states) <= {"done", "failed", "removed"}
        and "no cause" not in causes
        and code == 0
    )
    return {
        "sound": sound and not (reader.broken or twice or bad or left or ended - told or ended_by_itself)
    } | result


if __name__ == "__main__":
    main()
