"""Scores of a forecast: metrics, baselines, pairing with the truth, plots and reports."""
