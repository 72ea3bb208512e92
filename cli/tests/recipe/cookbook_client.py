"""The client of the cookbook: like the plain one, but it assumes that `send` sends everything.

    RECIPE_KEY=... cookbook_client.py ADDRESS DIGEST MESSAGE...
"""
import hmac
import os
import sys

from address import connect


def prove(server, key, digest):
    proof = hmac.new(key, server.recv(32), digestmod=digest).digest()
    server.send(proof)


def main(where, digest, *messages):
    server = connect(where)
    prove(server, os.environb[b"RECIPE_KEY"], digest)
    for message in messages:
        server.send(message.encode("utf-8"))
        reply = server.recv(1024)
        print(reply.decode("utf-8") if reply else "end of stream")
        if not reply:
            return


main(*sys.argv[1:])
