"""Numerical solvers that make truth to train and test on."""
