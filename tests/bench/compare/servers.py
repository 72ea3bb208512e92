"""Echo servers in Python, to compare with.

    servers.py recipe|asyncio-raw|asyncio-u32|multiprocessing

Each listens on a free port of 127.0.0.1, and prints it. Servers with a handshake use the key in
COUNTERSIGN_KEY."""
import asyncio
import hmac
import os
import socket
import struct
import sys
import threading
from multiprocessing.connection import Listener

KEY = os.environb[b"COUNTERSIGN_KEY"]


def print_ready(port):
    print("LISTENING 127.0.0.1", port, flush=True)


def recipe():
    """The Python Cookbook's recipe 11.9: serves one client at a time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print_ready(listener.getsockname()[1])
        while True:
            client, _ = listener.accept()
            with client:
                challenge = os.urandom(32)
                client.sendall(challenge)
                expected = hmac.new(KEY, challenge, "sha256").digest()
                if not hmac.compare_digest(expected, client.recv(32)):
                    continue
                while data := client.recv(8192):
                    client.sendall(data)


async def echo_raw(reader, writer):
    challenge = os.urandom(32)
    writer.write(challenge)
    expected = hmac.new(KEY, challenge, "sha256").digest()
    try:
        if hmac.compare_digest(expected, await reader.readexactly(32)):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    writer.close()


async def echo_u32(reader, writer):
    try:
        while True:
            header = await reader.readexactly(4)
            (length,) = struct.unpack(">I", header)
            writer.write(header + await reader.readexactly(length))
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    writer.close()


def with_asyncio(handler):
    async def serve():
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        print_ready(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


def multiprocessing():
    def echo(connection):
        try:
            while True:
                connection.send_bytes(connection.recv_bytes())
        except (EOFError, OSError):
            pass

    with Listener(("127.0.0.1", 0), authkey=KEY, backlog=128) as listener:
        print_ready(listener.address[1])
        while True:
            try:
                connection = listener.accept()
            except (EOFError, OSError):
                continue
            threading.Thread(target=echo, args=[connection], daemon=True).start()


{
    "recipe": recipe,
    "asyncio-raw": lambda: with_asyncio(echo_raw),
    "asyncio-u32": lambda: with_asyncio(echo_u32),
    "multiprocessing": multiprocessing,
}[sys.argv[1]]()
