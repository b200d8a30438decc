"""greeter.py SOCKET WORDS: a server that knows of nothing: says WORDS to whoever says something."""

import socket
import sys

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
while True:
    connection, _ = listener.accept()
    with connection:
        if connection.recv(1024):
            connection.sendall(f"{sys.argv[2]}\n".encode())
