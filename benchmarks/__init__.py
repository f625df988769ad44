"""Load for a running platform, measured beside peers in the same run."""
