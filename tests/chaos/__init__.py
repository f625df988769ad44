"""Real faults against a real platform."""
