"""Answers messages in capitals, one thread for each client.

    server.py VERSION CERTIFICATE KEY TRUST LEAVE

LEAVE is `unwrap`, with a close_notify when the client has said its own; `close`, without, after the
first answer; `within`, without and within the first answer.
"""
import socket
import sys
import threading

from frames import context, receive, send

*files, leave = sys.argv[1:]


def serve(client):
    while (message := receive(client)) is not None:
        if leave == "within":
            client.sendall(b"\0\0\0\5HEL")
            break
        send(client, message.upper())
        if leave == "close":
            break
    else:
        client.unwrap()
    # Drops TLS without a word, and shuts; a socket closed with bytes unread would be a reset.
    client.shutdown(socket.SHUT_WR)
    while client.recv(4096):
        pass
    client.close()


with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print("LISTENING", *listener.getsockname(), flush=True)
    with context("server", *files).wrap_socket(listener, server_side=True) as listener:
        while True:
            try:
                client, _ = listener.accept()
            except OSError as error:
                print(error, file=sys.stderr, flush=True)
                continue
            threading.Thread(target=serve, args=[client]).start()
