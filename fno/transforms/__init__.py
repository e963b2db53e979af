"""Transforms between fields and their spectral coefficients."""
