"""Training batches from a store; the only package of `datasets` that imports torch."""
