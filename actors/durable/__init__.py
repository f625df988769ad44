"""Durable entities on Ray: any pure state machine, kept in memory and made to last by Postgres.

``partition``  one turn loop: decide, write, then tell
``channel``    a connection to the process that hosts a partition
``link``       batched, at-least-once delivery between partitions and from gateways
``routing``    which partition an entity lives in, and how to reach it
``actor``      the Ray actor that hosts a partition
``records``    what the journal holds

Nothing here knows what the entities are about.
"""
