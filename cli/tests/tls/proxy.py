"""A proxy between a client and a server, with a certificate that both trust. Forwards all data.

    proxy.py ADDRESS VERSION CERTIFICATE KEY TRUST HOW

ADDRESS is the server's. HOW is `tls-tls`, `tls-plain` where the server has no TLS, or `plain-tls` where
the client has none.
"""
import socket
import sys
import threading

from frames import context

address, version, certificate, key, trust, how = sys.argv[1:]
host, port = address.rsplit(":", 1)
towards_client, towards_server = how.split("-")


def within(side, sock, tls):
    if tls != "tls":
        return sock
    made = context(side, version, certificate, key, trust)
    return made.wrap_socket(sock, server_side=side == "server")


def copy(source, sink):
    try:
        while data := source.recv(4096):
            sink.sendall(data)
    except OSError:
        pass
    for sock in source, sink:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print("LISTENING", *listener.getsockname(), flush=True)
    while True:
        client = within("server", listener.accept()[0], towards_client)
        server = within("client", socket.create_connection((host, int(port))), towards_server)
        for pair in (client, server), (server, client):
            threading.Thread(target=copy, args=pair, daemon=True).start()
