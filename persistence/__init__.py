"""Postgres: the journal, snapshots, projections, queries and schema migrations.

May import ``domain`` and asyncpg, and nothing of Ray, HTTP or the settings.
"""
