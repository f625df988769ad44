"""The whole runtime on a clock, a network and a database of its own, from one seed."""
