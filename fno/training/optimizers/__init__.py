"""Optimizers: AdamW, Muon and SOAP, and their registry."""

from .matrices import MatrixLayout, matrix_layouts
from .muon import Muon
from .options import OptimizerOptions
from .registry import OPTIMIZERS, OptimizerFactory, build_optimizer
from .soap import SOAP

__all__ = [
    "OPTIMIZERS",
    "SOAP",
    "MatrixLayout",
    "Muon",
    "OptimizerFactory",
    "OptimizerOptions",
    "build_optimizer",
    "matrix_layouts",
]
