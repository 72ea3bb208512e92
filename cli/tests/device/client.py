"""A device: sends all requests at once, then prints each answer. With the TLS arguments, inside TLS.

    client.py HOST PORT IMEI HEARTBEATS [VERSION CERTIFICATE KEY TRUST]
"""
import contextlib
import socket
import struct
import sys
import time

import message

host, port, imei, beats, *tls = sys.argv[1:]
with contextlib.ExitStack() as stack:
    sock = stack.enter_context(socket.create_connection((host, int(port))))
    if tls:
        import frames

        sock = stack.enter_context(frames.context("client", *tls).wrap_socket(sock))
        stack.callback(sock.unwrap)
    message.send(sock, message.register("996da38d-a7be-4947-aa4c-f8208b5f4ade", imei))
    message.send(sock, message.date_time())
    message.send(sock, message.heartbeat())
    for beat in range(int(beats) + 2):
        data = message.receive(sock)
        kind, code = struct.unpack("!2b", data[:2])
        if kind == message.DATETIME:
            time.strptime(data[2:].decode(), "%Y-%m-%d %H:%M:%S")
        print(kind, code, len(data), flush=True)
        if kind == message.HEARTBEAT and beat < int(beats) + 1:
            time.sleep(0.1)
            message.send(sock, message.heartbeat())
