"""Sockets for the addresses of `countersign`: host:port or unix:/path."""
import socket


def connect(where):
    if where.startswith("unix:"):
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.connect(where[len("unix:"):])
        return stream
    host, port = where.rsplit(":", 1)
    stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    stream.connect((host, int(port)))
    return stream


def listen():
    """Listens on a free port and prints a ready line like countersign's."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(5)
    print("LISTENING", *listener.getsockname(), flush=True)
    return listener
