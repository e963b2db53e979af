"""From a store to batches for training; the only place in `datasets` that imports torch."""
