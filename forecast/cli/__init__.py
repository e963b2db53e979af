"""The `forecast` command: the only place that knows command-line options."""
