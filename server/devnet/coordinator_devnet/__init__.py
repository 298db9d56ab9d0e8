"""The embedded world: chain, Lightning, keymeld and oracle servers that speak the real wire protocols."""
