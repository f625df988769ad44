"""A customer's accounts: balances, transfers, conversion, holds, limits.

All of one customer's accounts are one entity, so that a move between them is one atomic step.
"""
