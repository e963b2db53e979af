"""Reference solvers of partial differential equations, stores of simulations and batches of samples."""
