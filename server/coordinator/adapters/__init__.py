"""The ports, spoken over real wire protocols: one module per protocol."""
