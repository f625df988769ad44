"""Pages of the exchange: trading, instruments, portfolio, orders and fills, API keys."""
