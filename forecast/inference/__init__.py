"""Forecasts from a trained model: initial states, rollout, perturbations, output grid and writers."""
