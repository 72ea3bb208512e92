"""The client of the plain recipe.

    RECIPE_KEY=... client.py ADDRESS DIGEST MESSAGE...

Reads the challenge in one read and answers it. Then sends the messages one at a time and prints each
reply. Prints `end of stream` and stops when the server has closed.
"""
import hmac
import os
import sys

from address import connect

where, digest, *messages = sys.argv[1:]
server = connect(where)
challenge = server.recv(32)
answer = hmac.new(os.environb[b"RECIPE_KEY"], challenge, digestmod=digest)
server.sendall(answer.digest())
for message in messages:
    server.sendall(message.encode("utf-8"))
    reply = server.recv(1024)
    if not reply:
        print("end of stream")
        break
    print(reply.decode("utf-8"))
server.close()
