"""What every request passes before it is answered: where it comes from, limits, time, caching."""
