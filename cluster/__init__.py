"""The composition root: settings, embedded servers, start and stop, the ``kontor`` command.

The only layer that may import every other one, read the environment and start processes.
"""
