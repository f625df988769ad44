"""The trading API in the dialect that most trading clients speak; docs/concepts/trading-api.md."""
