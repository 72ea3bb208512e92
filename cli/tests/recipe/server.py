"""The server of the plain recipe: accepts one client after the other, answers in capitals, never closes an
authenticated client.

    RECIPE_KEY=... server.py DIGEST
"""
import hmac
import os
import sys

from address import listen

digest = sys.argv[1]
key = os.environb[b"RECIPE_KEY"]


def is_legitimate(client):
    challenge = os.urandom(32)
    client.sendall(challenge)
    expected = hmac.new(key, challenge, digestmod=digest).digest()
    given = client.recv(len(expected))
    return hmac.compare_digest(given, expected)


def serve(client, size=1024):
    if not is_legitimate(client):
        client.close()
        return
    while chunk := client.recv(size):
        client.sendall(chunk.upper())


# The list keeps clients from being closed by the garbage collector.
served = []
listener = listen()
while True:
    client, _ = listener.accept()
    served.append(client)
    serve(client)
