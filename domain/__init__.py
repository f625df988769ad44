"""The business rules: pure state machines and value types, without I/O, clock or randomness."""
