"""Servers that send every message back, to compare with.

    servers.py recipe|asyncio-raw|asyncio-u32|multiprocessing

Each listens on a free port of 127.0.0.1, which it prints. Whoever asks for a key has that of
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


def ready(port):
    print("LISTENING 127.0.0.1", port, flush=True)


def recipe():
    """One client after the other: a challenge, an answer, and then what comes is sent back."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ready(listener.getsockname()[1])
        while True:
            client, _ = listener.accept()
            with client:
                challenge = os.urandom(32)
                client.sendall(challenge)
                answer = hmac.new(KEY, challenge, "sha256").digest()
                if not hmac.compare_digest(answer, client.recv(32)):
                    continue
                while data := client.recv(8192):
                    client.sendall(data)


async def raw(reader, writer):
    challenge = os.urandom(32)
    writer.write(challenge)
    answer = hmac.new(KEY, challenge, "sha256").digest()
    try:
        if hmac.compare_digest(answer, await reader.readexactly(32)):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    writer.close()


async def u32(reader, writer):
    try:
        while True:
            header = await reader.readexactly(4)
            (length,) = struct.unpack(">I", header)
            writer.write(header + await reader.readexactly(length))
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    writer.close()


def with_asyncio(talk):
    async def serve():
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        ready(server.sockets[0].getsockname()[1])
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
        ready(listener.address[1])
        while True:
            try:
                connection = listener.accept()
            except (EOFError, OSError):
                continue
            threading.Thread(target=echo, args=[connection], daemon=True).start()


{
    "recipe": recipe,
    "asyncio-raw": lambda: with_asyncio(raw),
    "asyncio-u32": lambda: with_asyncio(u32),
    "multiprocessing": multiprocessing,
}[sys.argv[1]]()
