"""Objectives of training: forecast errors, errors and residuals of solution operators, inverse problems."""
