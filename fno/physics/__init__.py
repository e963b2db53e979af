"""Residuals of partial differential equations and balances of the atmosphere.

``equations`` has one ``Equation`` per equation, ``derivatives`` the derivatives that residuals take,
``evolution`` and ``steady`` residuals in units of the solution, ``atmosphere`` and ``balances`` the
atmosphere on pressure levels, and ``sphere`` the differential operators of a global grid.
"""
