"""The exchange: instruments and order books, from the matching engine to the durable entity."""
