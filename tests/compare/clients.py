"""Clients that neither wrk nor curl is."""

import collections
import contextlib
import select
import socket
import time


class Wrong(Exception):
    """Why a run says nothing."""


def connected(port, window=None):
    """A connection to the proxy, for a slow reader with a small window."""
    connection = socket.socket()
    connection.settimeout(10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if window:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    connection.connect(("127.0.0.1", port))
    return connection


def part(connection, most=1 << 16):
    received = connection.recv(most)
    if not received:
        raise Wrong("a connection was closed before the end of an answer")
    return received


def check_status(head):
    if not head.startswith(b"HTTP/1.1 200 "):
        raise Wrong(f"a wrong answer: {head[:40].decode(errors='replace')}")


def answer(connection, body, got=b""):
    """One answer to its end, of which `got` has come already, and which has to be right."""
    got = bytearray(got)
    while not got.endswith(body):
        got += part(connection)
    check_status(got)
    return bytes(got)


def paced(port, request, body, rate, seconds):
    """Asks so many times a second, whether or not what was asked before is answered. Gives, in seconds, for how long
    each waited after the time at which it was due, and by how much it was sent late."""
    with contextlib.ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        connections = [stack.enter_context(connected(port)) for _ in range(64)]
        places = {connection.fileno(): place for place, connection in enumerate(connections)}
        for place in places:
            poll.register(place, select.EPOLLIN)
        due = [collections.deque() for _ in connections]
        rest = [b""] * len(connections)
        waits, late, count = [], [], rate * seconds
        begun = time.perf_counter()
        while len(waits) < count:
            now = time.perf_counter() - begun
            if now > seconds + 10:
                raise Wrong(f"{len(waits)} of {count} requests were answered")
            while len(late) < count and len(late) / rate <= now:
                place = len(late) % len(connections)
                connections[place].send(request)
                due[place].append(len(late) / rate)
                late.append(now - len(late) / rate)
            for descriptor, _ in poll.poll(0):
                place = places[descriptor]
                *heads, rest[place] = (rest[place] + part(connections[place])).split(body)
                now = time.perf_counter() - begun
                for head in heads:
                    check_status(head)
                    waits.append(now - due[place].popleft())
        return waits, late
