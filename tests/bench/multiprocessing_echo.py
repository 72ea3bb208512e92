"""multiprocessing_echo.py client|server PORT KEY TIMES LENGTH...

The client prints the median round-trip time of each length in seconds, of TIMES messages each. The
server prints its port, and serves one client."""
import sys
import time
from multiprocessing.connection import Client, Listener

role, port, key, times = sys.argv[1:5]
address, key = ("127.0.0.1", int(port)), key.encode()
if role == "server":
    with Listener(address, authkey=key) as listener:
        print(listener.address[1], flush=True)
        with listener.accept() as connection:
            try:
                while True:
                    connection.send_bytes(connection.recv_bytes())
            except EOFError:
                pass
else:
    with Client(address, authkey=key) as connection:
        for length in map(int, sys.argv[5:]):
            message, round_trips = b"x" * length, []
            for _ in range(int(times)):
                start = time.perf_counter()
                connection.send_bytes(message)
                assert len(connection.recv_bytes()) == length
                round_trips.append(time.perf_counter() - start)
            print(sorted(round_trips)[len(round_trips) // 2], flush=True)
