"""The task ``operator``: solution operators of simulated systems."""
