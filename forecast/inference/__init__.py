"""Forecasts of a trained model: initial states, ensembles, rollout, output grid, limits and files."""
