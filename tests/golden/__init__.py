"""What this and earlier releases have written, held against the present code."""
