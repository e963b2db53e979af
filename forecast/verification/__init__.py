"""Scores of forecasts against a truth, with reference forecasts, charts, maps and reports."""
