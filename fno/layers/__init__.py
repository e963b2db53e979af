"""Layers that models are assembled from."""
