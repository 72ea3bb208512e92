"""The server of the cookbook: echoes in larger chunks, and sends challenges with `send`.

    RECIPE_KEY=... cookbook_server.py DIGEST
"""
import hmac
import os
import sys

from address import listen


def admit(client, key, digest):
    question = os.urandom(32)
    client.send(question)
    right = hmac.new(key, question, digestmod=digest).digest()
    return hmac.compare_digest(right, client.recv(len(right)))


def echo(client):
    while True:
        data = client.recv(8192)
        if not data:
            return
        client.sendall(data)


def main(digest):
    listener = listen()
    kept = []
    while True:
        client, _ = listener.accept()
        kept.append(client)
        if admit(client, os.environb[b"RECIPE_KEY"], digest):
            echo(client)
        else:
            client.close()


main(sys.argv[1])
