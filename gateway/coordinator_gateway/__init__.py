"""The web gateway: REST and server-sent events in front of the gRPC core, derived from the protos."""
