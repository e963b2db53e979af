"""What can be seen of a training run: curves, pictures, and a summary of its folder."""
