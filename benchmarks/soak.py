"""Run four jobs through two weeks of an accelerated clock while faults are injected, and count the results.

    python benchmarks/soak.py                  # writes benchmarks/results/soak.json, within ten minutes

A service runs the forecasts of four jobs: one whose commands hang or fail, one whose source is late, one that
publishes to an S3 server, one that plots maps and keeps eight cycles as netCDF. Every few cycles a
fault is injected: a worker or the service is killed, a second scheduler races it, the ledger is locked or
overwritten, the clock jumps, the S3 server stops responding, the disk is full, the source is missing.
Meanwhile a reader verifies all outputs under their final names. In the end each cycle must be done, or failed
with a stated reason; each output must be complete, and none published twice.
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
from soak_reader import Reader
from soak_setup import DAYS, START, clock_of, prepare, set_clock

from fourcaster.forecast.jobs.object_store import ObjectStore
from fourcaster.forecast.jobs.output_store import LocalStore
from fourcaster.forecast.jobs.scheduler import Scheduler
from fourcaster.forecast.jobs.states import CycleState

HERE = Path(__file__).parent
FAULTS = (
    "worker killed",
    "scheduler killed",
    "two schedulers",
    "ledger locked",
    "ledger damaged",
    "clock back",
    "clock forward",
    "S3 stops",
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
    "claim lost": "the claim was lost",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=6.0, help="real duration of the two weeks [min]")
    parser.add_argument("--every", type=float, default=3.0, help="mean time between two faults [s]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "soak.json")
    parser.add_argument("--keep", type=Path, help="work in this folder and do not remove it")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.once)
        return
    folder = arguments.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = soak(folder, minutes=arguments.minutes, every=arguments.every, seed=arguments.seed)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(0 if result["sound"] else 1)


def serve(folder: Path, once: bool) -> None:
    """Run the scheduler in this process, ``once`` or until it is terminated."""
    scheduler = Scheduler(folder / "jobs.yaml", clock_of(folder))
    signal.signal(signal.SIGTERM, lambda *_: scheduler.stop())
    scheduler.run(stay=not once)


class Service:
    """Process of the scheduler, which is restarted whenever it has ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = self._start()

    def _start(self, *more: str) -> subprocess.Popen:
        with open(self.folder / "service.log", "a") as log:
            return subprocess.Popen(
                [sys.executable, __file__, "--serve", str(self.folder), *more], stderr=log, stdout=log
            )

    def kill(self) -> None:
        """Kill and restart the process."""
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def run_second(self) -> None:
        """Run another scheduler for the due cycles."""
        self._start("--once").wait()

    def attempts(self) -> list[psutil.Process]:
        """Return the processes of running attempts, which are the children of the fork server."""
        with suppress(psutil.Error):
            return [
                p
                for child in psutil.Process(self.process.pid).children()
                if "forkserver" in " ".join(child.cmdline())
                for p in child.children()
            ]
        return []

    def restart_if_ended(self) -> bool:
        """Restart the service if it has ended unexpectedly, and return whether it had."""
        if self.process.poll() is None:
            return False
        self.process = self._start()
        return True


def inject(
    kind: str, folder: Path, *, service: Service, server: subprocess.Popen, rng: random.Random
) -> None:
    """Inject a fault."""
    if kind == "worker killed":
        attempts = []
        for _ in range(40):
            if attempts := service.attempts():
                break
            time.sleep(0.05)
        if attempts:
            with suppress(psutil.Error):
                rng.choice(attempts).kill()
    elif kind == "scheduler killed":
        service.kill()
    elif kind == "two schedulers":
        threading.Thread(target=service.run_second, daemon=True).start()
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
    elif kind == "S3 stops":
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


def soak(folder: Path, *, minutes: float, every: float, seed: int) -> dict:
    """Run the service while faults are injected, and return the counts."""
    started = time.monotonic()
    rng = random.Random(seed)
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
    unexpected_ends = 0
    service = None
    try:
        for _ in range(100):
            with suppress(Exception):
                boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}").create_bucket(Bucket="soak")
                break
            time.sleep(0.2)
        set_clock(folder, epoch=time.time(), factor=DAYS * 86400 / (60 * minutes))
        service = Service(folder)
        reader = Reader(folder, ObjectStore("s3://soak/out/bucket", folder))
        reader.start()
        while not (folder / "ledger.sqlite").exists():  # the service must start before the first fault
            time.sleep(0.2)
            unexpected_ends += service.restart_if_ended()
        set_clock(folder, epoch=time.time())
        queue: list[str] = []
        while clock_of(folder)() < START + timedelta(days=DAYS):
            time.sleep(every * rng.uniform(0.5, 1.5))
            unexpected_ends += service.restart_if_ended()
            queue = queue or rng.sample(FAULTS, len(FAULTS))  # all faults equally often
            kind = queue.pop()
            inject(kind, folder, service=service, server=server, rng=rng)
            faults[kind] += 1
        service.process.terminate()
        code = service.process.wait()
        while (folder / "away.zarr").is_symlink():
            time.sleep(0.2)
        for fault in folder.glob("fault-*"):
            fault.unlink()
        last = Scheduler(folder / "jobs.yaml", clock_of(folder))
        last.run(until_ended=True)
        reader.finished.set()
        reader.join()
        reader.verify_all()
        counts = summary(folder, last, reader, faults=faults, unexpected_ends=unexpected_ends, code=code)
        return counts | {
            "seconds": round(time.monotonic() - started, 1),
            "seed": seed,
        }
    finally:
        for process in (server, *([service.process] if service else [])):
            process.kill()
            process.wait()


def summary(
    folder: Path,
    scheduler: Scheduler,
    reader: Reader,
    *,
    faults: Counter,
    unexpected_ends: int,
    code: int,
) -> dict:
    """Count the states and compare the ledger with the published outputs."""
    records = scheduler.ledger.records()
    states = Counter(str(record.state) for record in records)
    expected = 4 * (4 * DAYS + 1)
    causes = Counter(
        " ".join((record.error or "no cause").replace(str(folder), "").split()[:6])
        for record in records
        if record.state is CycleState.FAILED
    )
    inconsistent = []
    for record in records:
        cycle = f"{datetime.fromisoformat(record.cycle):%Y%m%dT%H}"
        name = cycle + (".nc" if record.job == "maps" else ".zarr")
        store = reader.bucket if record.job == "bucket" else LocalStore(folder / "out" / record.job)
        done = record.state is CycleState.DONE
        if done != bool(store.verify_checksum(name, record.checksum if done else None)):
            inconsistent.append(f"{record.job} {record.cycle} {record.state}")
    twice = [key for key, versions in reader.versions.items() if len(versions) > 1]
    leftovers = [str(p) for p in folder.rglob("*.replaced")] + [
        str(p) for home in (folder / "out").glob("*/.making") for p in home.iterdir()
    ]
    notified = {
        (path.name.removeprefix("notified-"), *line.split()[::-1])
        for path in folder.glob("notified-*")
        for line in path.read_text().splitlines()
    }
    ended = {
        (
            record.job,
            f"{datetime.fromisoformat(record.cycle):%Y%m%dT%H}",
            "failed" if record.state is CycleState.FAILED else "done",
        )
        for record in records
    }
    logs = [
        json.loads(line)
        for path in (folder / "logs").rglob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    result = {
        "cycles": len(records),
        "expected": expected,
        "states": dict(states),
        "causes of failure": dict(causes),
        "faults": dict(faults),
        "total faults": faults.total(),
        "attempts": sum(line["message"].startswith(("begins", "taken over")) for line in logs),
        "ends of attempts": {
            reason: sum(part in line["message"] for line in logs) for reason, part in ENDS.items()
        },
        "taken over": sum(line["message"].startswith("taken over") for line in logs),
        "ledgers put aside": len(list(folder.glob("ledger.sqlite.corrupt-*"))),
        "outputs verified by the reader": len(reader.versions),
        "incomplete outputs": reader.incomplete,
        "published twice": twice,
        "done without a complete output, or the reverse": inconsistent,
        "ended without a notification": sorted(map(str, ended - notified)),
        "verified": sum(record.verified is not None for record in records),
        "leftover files": leftovers,
        "service ended by itself": unexpected_ends,
    }
    sound = (
        len(records) == expected
        and set(states) <= {"done", "failed", "removed"}
        and "no cause" not in causes
        and code == 0
    )
    problems = reader.incomplete or twice or inconsistent or leftovers or ended - notified or unexpected_ends
    return {"sound": sound and not problems} | result


if __name__ == "__main__":
    main()
