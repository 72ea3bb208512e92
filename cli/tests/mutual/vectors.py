"""Runs docs/mutual_client.py against one end of the first session in the vectors."""
import socket
import sys

sys.path.insert(0, sys.argv[1])
import mutual_client as client

# JSON without true, false and null is Python. Minimal installations lack the module json.
vector = eval(open(sys.argv[2]).read(), {})[0]
known = {name: bytes.fromhex(vector[name])
         for name in ("psk", "m1", "m2", "m3", "c2s", "s2c", "client_instance", "client_nonce")}
wire = [bytes.fromhex(frame["wire"]) for frame in vector["frames"]]


def random(n):
    return known["client_instance" if n == 16 else "client_nonce"]


def connect(sent):
    """A client, connected to a server that sends only `sent`, and the server's end of the connection."""
    near, far = socket.socketpair()
    far.sendall(sent)
    far.shutdown(socket.SHUT_WR)
    return client.Client(near, known["psk"], b"k1", b"cli", random), far


def code(sent):
    """The error with which a client ends."""
    try:
        connect(sent)
    except SystemExit as end:
        return end.code


m1, m3 = known["m1"], known["m3"]

# The server sends PING and FIN. In between, the client sends the frames of the vectors.
end, far = connect(m1 + m3 + wire[2] + wire[5])
assert (end.ours, end.theirs) == (known["c2s"], known["s2c"])
end.send(b"hi")
end.send(b"")
assert end.receive(client.FIN) == b""
end.send(b"a part", client.PART)
end.sock.shutdown(socket.SHUT_WR)
assert far.makefile("rb").read() == known["m2"] + b"".join(wire[n] for n in (0, 1, 3, 4))

# Flipping any bit of the server's messages is detected.
for message, rest in (m1, m3), (m3, b""):
    before = b"" if message == m1 else m1
    for at in range(8 * len(message)):
        wrong = bytearray(message)
        wrong[at // 8] ^= 1 << at % 8
        assert code(before + wrong + rest) in (3, 4, 5), (message, at)

assert code(m1 + bytes.fromhex("000000027f01")) == 3
assert code(bytes.fromhex("000000027f03")) == 3
assert code(m1) == 4

# The same holds for a frame.
for at in range(8 * len(wire[2])):
    wrong = bytearray(wire[2])
    wrong[at // 8] ^= 1 << at % 8
    end, far = connect(m1 + m3 + wrong)
    try:
        end.receive(client.DATA)
        raise AssertionError(at)
    except SystemExit as ended:
        assert ended.code in (4, 5), (ended, at)
    end.sock.shutdown(socket.SHUT_WR)
    assert far.makefile("rb").read() == known["m2"], at

# Messages in several frames, with lengths around the length of a frame.
end.room = 3
for length in range(8):
    sent = []
    end.sock = type("Sock", (), {"sendall": lambda self, frame: sent.append(frame[4:-16])})()
    end.send(b"abcdefgh"[:length])
    assert [frame[0] for frame in sent] == [client.PART] * (len(sent) - 1) + [client.DATA]
    assert b"".join(frame[1:] for frame in sent) == b"abcdefgh"[:length]
    assert all(len(frame) == 4 for frame in sent[:-1]) and len(sent) == max(1, -(-length // 3))
