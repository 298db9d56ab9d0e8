"""`coordinator admin`: running competitions and the wallet from a shell, over gRPC.

A client like any other: it signs each call with the admin's Nostr key and knows nothing of the core's inside.
"""
