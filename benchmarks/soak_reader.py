"""A reader of the forecasts of a soak test, which must never see an incomplete one."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import xarray as xr

from fourcaster.forecast.jobs.object_store import ObjectStore
from fourcaster.forecast.jobs.output_store import LocalStore, OutputStore


class Reader(threading.Thread):
    """Thread that verifies all outputs under their final names, like users who wait for a forecast."""

    def __init__(self, folder: Path, bucket: ObjectStore) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.bucket = bucket
        self.versions: dict[str, set[str]] = {}
        self.incomplete: list[str] = []
        self.finished = threading.Event()

    def run(self) -> None:
        """Verify outputs until ``finished`` is set."""
        while not self.finished.wait(0.5):
            self.verify_all()

    def verify_all(self) -> None:
        """Verify each output that is new, and open the one that ``latest`` points to."""
        for root in (self.folder / "out").glob("*"):
            for output in [p for p in root.glob("2*") if len(p.suffixes) == 1 and p.suffix != ".png"]:
                with suppress(FileNotFoundError):
                    self._verify(
                        LocalStore(root),
                        output.name,
                        key=f"{root.name}/{output.name}",
                        version=str(output.stat().st_ino),
                        exists=output.exists,
                    )
            with suppress(FileNotFoundError):
                xr.open_dataset((root / "latest").resolve(strict=True), decode_timedelta=True).close()
        with suppress(OSError):  # the server does not respond
            for name, manifest in self.bucket.manifests():
                version = manifest.values["made"]
                key = f"bucket/{name}"
                self._verify(self.bucket, name, key=key, version=version, exists=lambda: True)

    def _verify(
        self, store: OutputStore, name: str, *, key: str, version: str, exists: Callable[[], bool]
    ) -> None:
        versions = self.versions.setdefault(key, set())
        if version not in versions:
            try:
                if not store.verify_checksum(name) and exists():
                    self.incomplete.append(key)
            except OSError:
                return
            versions.add(version)
