"""steady_load.py CA HOST URL-PATH PER_SECOND: asks 127.0.0.1:443 for HOST that many times a second until SIGTERM, whatever
the answers, then prints how many requests were made, how many failed and why, and the slowest.

Every other request opens a connection of its own; the rest keep theirs. A kept connection that was closed before the
first byte of an answer says nothing of the request: it is asked once more on a new one, as RFC 9110 (9.2.2) has clients
do, and counted apart. Every request that began is waited for. Nothing else is forgiven. Fewer than half the requests that
were to be made prove nothing: that fails too.
"""

import asyncio
import signal
import ssl
import sys
import time
from collections import Counter

ca, host, path, rate = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
context = ssl.create_default_context(cafile=ca)
idle, counts, failures, slowest = [], Counter(), Counter(), 0.0


class Closed(Exception):
    """Before the first byte of the answer."""


async def exchange(stream, keep):
    reader, writer = stream
    word = "keep-alive" if keep else "close"
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {word}\r\n\r\n".encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
    except (ConnectionError, ssl.SSLError) as error:
        raise Closed from error
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            raise Closed from error
        raise
    lines = head.decode("latin-1").lower().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
    await reader.readexactly(length)
    if keep and "connection: close" not in lines:
        idle.append(stream)
    else:
        writer.close()
    return lines[0].split()[1]


async def open_stream():
    return await asyncio.open_connection("127.0.0.1", 443, ssl=context, server_hostname=host)


async def ask(number):
    keep = number % 2 == 0
    while keep and idle:
        stream = idle.pop()
        if stream[0].at_eof():
            stream[1].close()
            continue
        try:
            return await exchange(stream, keep)
        except Closed:
            counts["again"] += 1
            break
    return await exchange(await open_stream(), keep)


async def counted(number):
    global slowest
    begun = time.monotonic()
    counts["requests"] += 1
    try:
        status = await asyncio.wait_for(ask(number), 30)
        if status != "200":
            failures[f"status {status}"] += 1
    except Exception as error:  # whatever it is, the request failed
        failures[repr(error)[:90]] += 1
    slowest = max(slowest, time.monotonic() - begun)


async def main():
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    begun, number, tasks = time.monotonic(), 0, set()
    while not ended.is_set():
        task = asyncio.create_task(counted(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
        await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
    seconds = time.monotonic() - begun
    await asyncio.gather(*tasks)
    few = counts["requests"] < rate * seconds / 2
    words = ", ".join(f"{count} × {why}" for why, count in failures.items()) or "none"
    print(f"{counts['requests']} requests in {seconds:.1f} s ({counts['requests'] / seconds:.0f}/s), "
          f"{sum(failures.values())} failed ({words}), {counts['again']} asked again, slowest {slowest:.2f} s"
          + (f"; fewer than half of {rate}/s: too few to tell" if few else ""))
    return few


sys.exit(1 if asyncio.run(main()) or failures else 0)
