"""TLS before a partner of the tests that speaks none itself: tls_front.py FOLDER PORT... listens on a free port for each PORT, with
server.pem and server.key of FOLDER, and carries bytes to it. Prints its ports.
"""

import asyncio
import pathlib
import ssl
import sys


async def carry(reader, writer):
    try:
        while part := await reader.read(1 << 16):
            writer.write(part)
            await writer.drain()
    except OSError:
        pass  # the other side has gone
    finally:
        writer.close()


async def main():
    folder = pathlib.Path(sys.argv[1])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "server.pem", folder / "server.key")
    tls.set_alpn_protocols(["h2", "http/1.1"])

    def to(port):
        async def accept(reader, writer):
            try:
                behind = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return writer.close()
            await asyncio.gather(carry(reader, behind[1]), carry(behind[0], writer))

        return accept

    fronts = [await asyncio.start_server(to(int(port)), "127.0.0.1", 0, ssl=tls) for port in sys.argv[2:]]
    print(*(front.sockets[0].getsockname()[1] for front in fronts), flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
