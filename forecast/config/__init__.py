"""Configuration: YAML, sections, overrides."""
