"""Who somebody is and what they may do: pure rules, without hashing, storage or cookies."""
