"""The canonical zarr store: opening, writing, locking, resuming."""
