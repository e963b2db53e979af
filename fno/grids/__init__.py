"""Grids: one family, latitude-longitude or Cartesian, with coordinates, spacing and area weights."""

from ..quadrature import SphereGrid, colatitudes, sphere_nodes
from .axes import COORDINATE_TOLERANCE, Array, match_axis, nearest_points, same_axis, spacing_at
from .base import AxisEdge, Edge, Grid
from .box import Box
from .latlon import LatLon, divisions

__all__ = [
    "COORDINATE_TOLERANCE",
    "Array",
    "AxisEdge",
    "Box",
    "Edge",
    "Grid",
    "LatLon",
    "SphereGrid",
    "colatitudes",
    "divisions",
    "match_axis",
    "nearest_points",
    "same_axis",
    "spacing_at",
    "sphere_nodes",
]
