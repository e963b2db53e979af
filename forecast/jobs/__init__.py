"""Scheduled forecasts: a jobs file lists what is due, a ledger records the state of every cycle.

Each attempt runs in a process of its own, and its forecast is published only once it is complete.
"""
