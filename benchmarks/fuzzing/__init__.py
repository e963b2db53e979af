"""The parts of ``benchmarks/fuzz.py``: bad inputs by kind, and a process for each that is watched."""
