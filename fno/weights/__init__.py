"""Files of weights of unknown origin: read safely and checked against a network."""
