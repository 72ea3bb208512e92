"""Answers messages in capitals, with a thread for each client.

    server.py VERSION CERTIFICATE KEY TRUST LEAVE

LEAVE is `unwrap`, with close_notify after the client's; `close`, without it after the first reply; `within`,
without it within the first reply.
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
    # Ends TCP without close_notify. Reads until the end, because closing a socket with unread data resets it.
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
