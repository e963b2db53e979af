"""Scheduled rollouts: a jobs file says what is due, a ledger what was done; each cycle is made apart and
published whole.
"""
