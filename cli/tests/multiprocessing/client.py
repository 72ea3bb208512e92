"""A client by multiprocessing.connection.

    PEER_KEY=... client.py ADDRESS ACT ARGUMENT...

ACT is a function below. If the client is refused, prints the error and exits with 3.
"""
import array
import mmap
import os
import struct
import sys
import threading
import time
from multiprocessing import AuthenticationError, BufferTooShort
from multiprocessing.connection import (
    Client, Connection, answer_challenge, deliver_challenge, wait)

from address import KEY, parse

PATIENCE = 60
where, act, *arguments = sys.argv[1:]
where = parse(where)


def connect():
    return Client(where, authkey=KEY)


def unauthenticated():
    """A connection without a handshake."""
    return Client(where)


def request(connection, message):
    # Reads only after the whole message is sent.
    connection.send_bytes(message)
    return connection.recv_bytes()


def send_texts(*messages):
    with connect() as connection:
        for message in messages:
            connection.send_bytes(message.encode("utf-8"))
            print(connection.recv_bytes().decode("utf-8"))


def sizes(service, *sizes):
    """Messages with every byte value."""
    with connect() as connection:
        for size in map(int, sizes):
            message = (bytes(range(256)) * (size // 256 + 1))[:size]
            reply = request(connection, message)
            assert reply == (message.upper() if service == "upper" else message), size


def pipelined(count):
    """Messages that are all sent without waiting for replies."""
    messages = [b"message %d" % n for n in range(int(count))]
    with connect() as connection:
        def send():
            for message in messages:
                connection.send_bytes(message)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        for message in messages:
            assert connection.recv_bytes() == message
        sender.join()


def concurrent_clients(size):
    """Clients that are connected at the same time."""
    size, served = int(size), []
    barrier = threading.Barrier(size)

    def one(number):
        with connect() as connection:
            barrier.wait(PATIENCE)
            for index in range(10):
                message = b"client %d, %d" % (number, index)
                assert request(connection, message) == message
            barrier.wait(PATIENCE)
            served.append(number)

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(served) == list(range(size)), served


def objects():
    """Pickled objects are echoed like any bytes."""
    with connect() as connection:
        for thing in [1, 2.25, None], "Größe", {"key": b"value"}, None:
            connection.send(thing)
            assert connection.recv() == thing


def slices():
    """After CPython's test_sendbytes."""
    message = b"abcdefghijklmnopqrstuvwxyz"
    with connect() as connection:
        for more, expected in (
                ((), message), ((5,), message[5:]), ((7, 8), message[7:15]),
                ((26,), b""), ((26, 0), b"")):
            connection.send_bytes(message, *more)
            assert connection.recv_bytes() == expected, more
        # Each of these fails and sends nothing.
        for more in (27,), (22, 5), (26, 1), (-1,), (4, -1):
            try:
                connection.send_bytes(message, *more)
            except ValueError:
                continue
            raise AssertionError(more)
        assert request(connection, b"last") == b"last"


def receive_into():
    """After CPython's test_connection: replies received into buffers."""
    numbers = array.array("i", range(4))
    width = numbers.itemsize
    with connect() as connection:
        for skipped in 0, 3:
            buffer = array.array("i", [0] * 10)
            connection.send_bytes(numbers)
            assert connection.recv_bytes_into(buffer, skipped * width) == 4 * width
            assert list(buffer) == [0] * skipped + list(numbers) + [0] * (6 - skipped)
        connection.send_bytes(b"hello world" * 10)
        try:
            connection.recv_bytes_into(bytearray(40))
            raise AssertionError("it fits")
        except BufferTooShort as error:
            assert error.args == (b"hello world" * 10,)
        assert request(connection, b"last") == b"last"


def poll():
    """After CPython's test_connection and _TestPoll."""
    with connect() as connection:
        assert not connection.poll() and not connection.poll(-1)
        began = time.monotonic()
        assert not connection.poll(0.2) and time.monotonic() - began > 0.15

        connection.send_bytes(b"")
        assert connection.poll(PATIENCE) and connection.poll() and connection.poll()
        assert connection.recv_bytes() == b""
        assert not connection.poll()

        for message in b"hello", b"", b"a", b"b", b"", b"bye", b"", b"lop":
            connection.send_bytes(message)
            assert connection.poll(PATIENCE)
            assert connection.recv_bytes() == message

        apart = b"a", b"b", b"cd"
        for message in apart:
            connection.send_bytes(message)
        for message in apart:
            assert connection.poll(PATIENCE) and connection.poll(PATIENCE) and connection.poll()
            assert connection.recv_bytes() == message
        assert not connection.poll()


def wait_for_several():
    """After CPython's TestWait."""
    expected = {connect(): [b"%d: %d" % (number, n) for n in range(10)] for number in range(4)}
    assert wait(expected, 0) == [] and wait(expected, -1) == []
    for connection, messages in expected.items():
        for message in messages:
            connection.send_bytes(message)
    received = {connection: [] for connection in expected}
    while received != expected:
        ready = wait(expected, PATIENCE)
        assert ready
        for connection in ready:
            received[connection].append(connection.recv_bytes())
    assert wait(expected, 0) == []


def long_headers():
    """Every message, including the handshake, with the header for messages over 2 GiB."""
    def send(connection, message):
        connection._send(struct.pack("!iQ", -1, len(message)) + bytes(message))

    Connection._send_bytes = send
    send_texts("hello", "", "last")


def too_long(size):
    with connect() as connection:
        connection.send_bytes(b"x" * int(size))
        assert_over(connection)


def digest(name):
    """Uses this digest, which CPython's Client cannot select."""
    connection = unauthenticated()
    answer_challenge(connection, KEY)
    deliver_challenge(connection, KEY, name)
    assert request(connection, b"hello") == b"hello"


def keyless():
    """A client without a key, which is CPython's default, receives the challenge as a message."""
    connection = unauthenticated()
    assert connection.recv_bytes().startswith(b"#CHALLENGE#")
    connection.send_bytes(b"hello")
    assert connection.recv_bytes() == b"#FAILURE#"
    assert_over(connection)


def reflect():
    """Sends the server's challenge of one connection back on another."""
    other, connection = unauthenticated(), unauthenticated()
    challenge = other.recv_bytes()
    answer_challenge(connection, KEY)
    connection.send_bytes(challenge)
    assert_over(connection)


def leave():
    """Closes the connection at every stage."""
    def at_once(connection):
        pass

    def after_its_challenge(connection):
        connection.recv_bytes()

    def in_a_header(connection):
        connection.recv_bytes()
        os.write(connection.fileno(), b"\0\0")

    def in_an_answer(connection):
        connection.recv_bytes()
        os.write(connection.fileno(), b"\0\0\0\x10half of")

    def before_a_challenge(connection):
        answer_challenge(connection, KEY)

    def in_a_challenge(connection):
        answer_challenge(connection, KEY)
        os.write(connection.fileno(), b"\0\0\0\x1f#CHALLENGE#")

    def before_its_answer(connection):
        answer_challenge(connection, KEY)
        connection.send_bytes(b"#CHALLENGE#" + bytes(20))

    def before_any_message(connection):
        authenticate(connection)

    def in_a_message(connection):
        authenticate(connection)
        os.write(connection.fileno(), b"\0\0\0\x64half of it")

    def before_the_reply(connection):
        authenticate(connection)
        connection.send_bytes(b"hello")

    for left in (at_once, after_its_challenge, in_a_header, in_an_answer, before_a_challenge,
                 in_a_challenge, before_its_answer, before_any_message, in_a_message,
                 before_the_reply):
        with unauthenticated() as connection:
            left(connection)
        with connect() as connection:
            assert request(connection, b"hello") == b"hello", left


def authenticate(connection):
    answer_challenge(connection, KEY)
    deliver_challenge(connection, KEY)


def assert_over(connection):
    try:
        more = connection.recv_bytes()
    except (EOFError, ConnectionResetError):
        return
    raise AssertionError(more)


def huge():
    """A message over 2 GiB, which has a long header, and its echo. Neither is ever in memory as a whole."""
    size = 2**31 + 5
    message = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    message[:5], message[-4:] = b"first", b"last"
    received = []

    with connect() as connection:
        receive = connection._recv

        def drain(size):
            if size < 1 << 20:
                return receive(size)
            left, ends = size, []
            while left:
                piece = os.read(connection.fileno(), min(left, 1 << 20))
                assert piece, "the server closed the connection"
                left -= len(piece)
                if left + len(piece) == size or not left:
                    ends.append(piece[:5] if not ends else piece[-4:])
                    piece = piece.strip(b"firstla")
                assert piece.count(0) == len(piece)
            received.extend([size] + ends)

        connection._recv = drain
        reader = threading.Thread(target=connection._recv_bytes, daemon=True)
        reader.start()
        connection.send_bytes(message)
        reader.join(PATIENCE)
        assert received == [size, b"first", b"last"], received
        assert request(connection, b"hello") == b"hello"


try:
    globals()[act](*arguments)
except (AuthenticationError, EOFError) as error:
    print("refused:", type(error).__name__, error, file=sys.stderr)
    sys.exit(3)
