"""The task ``weather``: forecast models trained on a store of gridded data."""
