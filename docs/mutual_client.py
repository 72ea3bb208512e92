"""mutual_client.py HOST PORT KEY_FILE KID NAME [MESSAGE...]: a client of the scheme mutual (PROTOCOL.md).
It reads only when a reply is due: while it waits for input it neither sends PING nor answers one."""
import hashlib, hmac, itertools, os, socket, struct, sys
DATA, PING, PONG, PART, FIN, MAX_FRAME = 0, 1, 2, 3, 4, 1 << 20
mac = lambda key, *parts: hmac.new(key, b"".join(parts), "sha256").digest()
expand = lambda key, *info: mac(key, *info, b"\1")
text = lambda x: bytes([len(x)]) + x
need = lambda fine, why, code=5: fine or sys.exit(print(why, file=sys.stderr) or code)

class Client:
    def __init__(self, sock, secret, kid, name, random=os.urandom):
        self.sock, self.file = sock, sock.makefile("rb")
        said = lambda *parts: hashlib.sha256(b"countersign/1\0" + b"".join(parts)).digest()
        proof = lambda who, *parts: mac(expand(k0, who + b" auth"), who, said(*parts))
        m1, k0 = self.read(2, 48), expand(mac(b"countersign/1", secret), b"import\1", text(kid))
        need(m1[4:9] == b"\1CSGN" and 44 < len(m1) == 44 + m1[11], "refused, or not mutual", 3)
        need(m1[9] <= 1 <= m1[10] and 1 in m1[12:-32], "no version or suite in common")
        m2 = b"\2\1\1" + text(kid) + text(name) + text(b"") + random(16)
        m2 = struct.pack(">I", len(m2) + 68) + m2 + struct.pack(">I", MAX_FRAME) + random(32)
        sock.sendall(m2 := m2 + proof(b"client", m1, m2))
        m3 = self.read(2, 122)
        need(m3[4] == 3, f"refused: alert {m3[5]}", 3)
        need(hmac.compare_digest(proof(b"server", m1, m2, m3[:-32]), m3[-32:]), "wrong proof", 3)
        need(m3[6:-56] != name and m3[-56:-40] != m2[-84:-68], "the server is this client", 3)
        whole, (room, beat) = 62 < len(m3) == 62 + m3[5], struct.unpack(">II", m3[-40:-32])
        need(whole and room >= 256 and (not beat or 1000 <= beat <= 3600000), "a malformed M3")
        sock.settimeout(2 * beat / 1000 + 5 if beat else None)
        self.room, master = room - 17, expand(k0, b"session", said(m1, m2, m3))
        self.ours, self.theirs = (expand(expand(master, way), b"key") for way in (b"c2s", b"s2c"))
        self.sent, self.heard = ((struct.pack(">Q", n) for n in itertools.count()) for _ in "ab")
    def read(self, least, most):
        n = int.from_bytes(head := need(self.file.read(4), "the server closed", 4), "big")
        body = need(least <= n <= most, "a length that may not be") and self.file.read(n)
        return need(len(body) == n and head + body, "the server closed", 4)
    def send(self, message, kind=DATA):
        while message is not None:
            part, message = message[:self.room], message[self.room:] or None
            frame = struct.pack(">IB", 17 + len(part), PART if message else kind) + part
            self.sock.sendall(frame + mac(self.ours, next(self.sent), frame)[:16])
    def receive(self, last, message=b""):
        while frame := self.read(17, MAX_FRAME):
            tag = mac(self.theirs, next(self.heard), frame[:-16])[:16]
            need(hmac.compare_digest(tag, frame[-16:]), "a frame's tag is wrong")
            kind, payload, n = frame[4], frame[5:-16], len(frame) - 21
            fine = (True, n == 8, n == 8, n > 0, n == 0 and not message, False)[min(kind, 5)]
            need(fine or kind >= 0x40, "the server ended the session, or broke the protocol", 4)
            message += payload if kind in (DATA, PART) else b""
            if kind == PING:
                self.send(payload, PONG)
            elif kind in (DATA, FIN):
                return need(kind == last, "the server said more or less than was due") and message
if __name__ == "__main__":
    host, port, file, kid, name, *messages = map(os.fsencode, sys.argv[1:])
    secret = open(file, "rb").read().removesuffix(b"\n")
    client = Client(socket.create_connection((host, int(port)), 5), secret, kid, name)
    for message in messages or sys.stdin.buffer:
        client.send(message.removesuffix(b"\n"))
        os.write(1, client.receive(DATA) + b"\n")
    client.send(b"", FIN)
    client.receive(FIN)
