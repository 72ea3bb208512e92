"""Sends messages, prints the replies and closes.

    client.py ADDRESS VERSION CERTIFICATE KEY TRUST LEAVE MESSAGE...

LEAVE is `unwrap`, with close_notify; `close`, without it; `within`, without it and within a message.
"""
import socket
import ssl
import sys

from frames import context, receive, send

address, version, certificate, key, trust, leave, *messages = sys.argv[1:]
host, port = address.rsplit(":", 1)
raw = socket.create_connection((host, int(port)))
try:
    sock = context("client", version, certificate, key, trust).wrap_socket(raw)
    print(sock.version())
    for message in messages:
        send(sock, message.encode())
        print(receive(sock).decode(), flush=True)
except (ssl.SSLError, ConnectionError) as error:
    sys.exit(f"refused: {error}")
if leave == "unwrap":
    sock.unwrap()
elif leave == "within":
    sock.sendall(b"\0\0\0\5hel")
sock.close()
