"""Stubs generated from proto/coordinator/lnd: the part of LND's gRPC API that is spoken here."""
