"""What clients and listeners here have in common."""
import os

KEY = os.environb[b"PEER_KEY"]


def parse(where):
    """An address in the form that `countersign` takes, host:port or unix:/path."""
    if where.startswith("unix:"):
        return where[len("unix:"):]
    host, port = where.rsplit(":", 1)
    return host, int(port)
