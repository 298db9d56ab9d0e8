"""One servicer per service of `coordinator.v1`: messages in, one operation, messages out."""
