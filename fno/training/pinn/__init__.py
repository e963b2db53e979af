"""Training of physics-informed networks: collocation points, least squares and time windows."""
