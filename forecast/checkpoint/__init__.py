"""Checkpoints: folders of weights and metadata, written whole and checked on reading."""
