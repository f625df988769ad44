"""Real faults against a real platform under load, and the proof that nothing was lost."""
