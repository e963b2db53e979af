"""Files of weights from unknown origin: read safely, checked against a network, converted from other
packages.
"""
