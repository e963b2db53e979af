"""What is left of an equation when a field is put into it: residuals, unreduced, at every point.

``transport``, ``reaction``, ``darcy``, ``flow``, ``shallow_water`` and ``atmosphere`` hold the equations,
``derivatives`` what they are given to differentiate with.
"""
