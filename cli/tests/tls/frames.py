"""TLS contexts and length-prefixed messages."""
import ssl
import struct


def context(side, version, certificate, key, trust):
    """`side` is client or server, `version` is 1.2 or 1.3, the others are PEM files."""
    context = ssl.SSLContext(getattr(ssl, "PROTOCOL_TLS_" + side.upper()))
    context.minimum_version = context.maximum_version = {
        "1.2": ssl.TLSVersion.TLSv1_2,
        "1.3": ssl.TLSVersion.TLSv1_3,
    }[version]
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(trust)
    # The trusted file may be the peer's certificate itself, with any name.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def send(sock, message):
    sock.sendall(struct.pack("!I", len(message)) + message)


def receive(sock):
    """The next message, or None at the end of the stream."""
    head = take(sock, 4)
    return head and take(sock, *struct.unpack("!I", head))


def take(sock, size):
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            assert not data, "cut off"
            return None
        data += more
    return data
