"""Training with several processes: shared samples, sharded parameters, and latitude bands."""
