"""Layers of neural operators."""
