"""Parts of ``benchmarks/fuzz.py``: invalid inputs by kind, and a monitored process for each."""
