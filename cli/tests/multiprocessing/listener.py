"""A listener by multiprocessing.connection.

    PEER_KEY=... listener.py ACT [ADDRESS]

ACT is a function below, called for each connection: the first three after the handshake, the others
instead of it. Listens on ADDRESS, or on a free port, and prints a ready line like countersign's.
"""
import sys
import threading
import time
from multiprocessing.connection import (
    MESSAGE_LENGTH, Listener, answer_challenge, deliver_challenge)

from address import KEY, parse

CHALLENGE, WELCOME = b"#CHALLENGE#", b"#WELCOME#"
# Before Python 3.12, messages do not name the digest.
PREFIX = b"{sha256}" if MESSAGE_LENGTH > 20 else b""
MESSAGE = PREFIX + bytes(MESSAGE_LENGTH)


def echo(connection, answer=bytes):
    while True:
        connection.send_bytes(answer(connection.recv_bytes()))


def upper(connection):
    echo(connection, bytes.upper)


def greet(connection):
    """After CPython's test_issue16955: sends first, then closes."""
    connection.send_bytes(b"welcome")


def late(connection):
    time.sleep(1)
    deliver_challenge(connection, KEY)
    answer_challenge(connection, KEY)
    upper(connection)


def silent(connection):
    connection.poll(60)
    time.sleep(60)


def impostor(connection):
    """Has no key: accepts any answer, and invents its own."""
    connection.send_bytes(CHALLENGE + MESSAGE)
    connection.recv_bytes(256)
    connection.send_bytes(WELCOME)
    connection.recv_bytes(256)
    connection.send_bytes(PREFIX + bytes(32 if PREFIX else 16))
    echo(connection)


def no_challenge(connection):
    connection.send_bytes(b"something bogus")
    connection.poll(60)


def no_message(connection):
    """After CPython's test_answer_challenge_auth_failure."""
    connection.send_bytes(CHALLENGE)
    connection.poll(60)


def no_verdict(connection):
    connection.send_bytes(CHALLENGE + MESSAGE)
    connection.recv_bytes(256)
    connection.send_bytes(b"something bogus")
    connection.poll(60)


def leave_at_once(connection):
    pass


def leave_after_its_challenge(connection):
    connection.send_bytes(CHALLENGE + MESSAGE)
    connection.recv_bytes(256)


def leave_before_its_answer(connection):
    deliver_challenge(connection, KEY)
    connection.recv_bytes(256)


def leave_before_the_reply(connection):
    deliver_challenge(connection, KEY)
    answer_challenge(connection, KEY)
    connection.recv_bytes()


def handle(connection):
    with connection:
        try:
            act(connection)
        except EOFError:
            pass


act, *where = sys.argv[1:]
act = globals()[act]
where = parse(where[0]) if where else ("127.0.0.1", 0)
with Listener(where, authkey=KEY if act in (echo, upper, greet) else None) as listener:
    at = listener.address
    print("LISTENING", *(at if isinstance(at, tuple) else ("unix", at)), flush=True)
    while True:
        try:
            connection = listener.accept()
        except Exception as error:
            print("refused:", type(error).__name__, error, file=sys.stderr, flush=True)
            continue
        threading.Thread(target=handle, args=(connection,), daemon=True).start()
