"""The gRPC core: competitions, tickets, entries, keymeld sessions and the wallet behind them."""
