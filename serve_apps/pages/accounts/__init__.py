"""Pages of money: home, accounts, transfers, history."""
