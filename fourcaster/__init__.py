"""Fourcaster: neural-operator weather and fluid forecasting, from a zarr store to a scored forecast."""

__version__ = "0.1.0"
