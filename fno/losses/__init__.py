"""Losses of training, and weights of their terms."""
