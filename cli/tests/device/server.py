"""A server of devices with a thread for each. Prints a line for each request. With the TLS arguments, inside
TLS.

    server.py [VERSION CERTIFICATE KEY TRUST]
"""
import socket
import struct
import sys
import threading
import time

import message


tls = sys.argv[1:]
if tls:
    import frames

    context = frames.context("server", *tls)


def serve(sock):
    try:
        if tls:
            sock = context.wrap_socket(sock, server_side=True)
        while True:
            data = message.receive(sock)
            _, kind = struct.unpack("!2b", data[:2])
            answer = struct.pack("!2b", kind, 0)
            if kind == message.REGISTER:
                print("register", data[2:38].decode(), data[38:53].decode(), file=sys.stderr, flush=True)
            elif kind == message.HEARTBEAT:
                print("heartbeat", file=sys.stderr, flush=True)
            elif kind == message.DATETIME:
                answer += time.strftime("%Y-%m-%d %H:%M:%S", time.localtime()).encode()
            message.send(sock, answer)
    except EOFError:
        print("gone", file=sys.stderr, flush=True)
    finally:
        sock.close()


with socket.create_server(("127.0.0.1", 0)) as listener:
    print("LISTENING", *listener.getsockname(), flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()
