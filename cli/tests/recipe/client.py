"""The plain recipe's client.

    RECIPE_KEY=... client.py ADDRESS DIGEST MESSAGE...

Takes the challenge in one read, answers it, then asks and prints, one message at a time. Prints
`end of stream` and stops when the server has closed.
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
