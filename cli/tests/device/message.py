"""The messages of devices."""
import struct

REGISTER, HEARTBEAT, DATETIME = 0, 1, 2


def register(app_id, imei):
    return struct.pack("!2b36s15s", 0, REGISTER, app_id.encode(), imei.encode())


def heartbeat():
    return struct.pack("!2b", 0, HEARTBEAT)


def date_time():
    return struct.pack("!2b", 0, DATETIME)


def send(sock, data):
    sock.sendall(struct.pack("!I", len(data)) + data)


def exactly(sock, size):
    data = b""
    while len(data) < size:
        more = sock.recv(min(size - len(data), 8192))
        if not more:
            raise EOFError
        data += more
    return data


def receive(sock):
    (size,) = struct.unpack("!I", exactly(sock, 4))
    return exactly(sock, size)
