"""Tests of the simulator, and what it finds."""
