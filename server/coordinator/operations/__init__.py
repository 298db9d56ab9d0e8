"""What callers can do: each operation checks the request, changes the store in one transaction, tells the
log.
"""
