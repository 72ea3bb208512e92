"""The key and the address, for the client and the listener."""
import os

KEY = os.environb[b"PEER_KEY"]


def parse(where):
    """Parses an address of `countersign`: host:port or unix:/path."""
    if where.startswith("unix:"):
        return where[len("unix:"):]
    host, port = where.rsplit(":", 1)
    return host, int(port)
