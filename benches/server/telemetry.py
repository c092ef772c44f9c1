"""What watching itself costs the appliance: the same requests to four instances, one that logs nothing and keeps no trace, one as it is
shipped, one with everything on as it is meant to be used (a central log, a collector of traces and lines, mail, metrics read each second), one that
beside it logs a line for each request. Requests a second, and processor time a request, which other work of the machine disturbs less. Rounds interleaved, medians and ratios; then what it holds before and after a million requests. Run by scripts/bench-telemetry.
"""

import argparse, http.server, os, pathlib, socket, statistics, threading, time, urllib.request
from compare import Appliance, documents, load, say

OPERATIONS = {"empty": 16, "read": 16, "page": 16, "create": 16}
MILLION = 1_000_000


class Instance(Appliance):
    """With what it is told beside the rest."""

    def __init__(self, binary, work, port, settings):
        work.mkdir(parents=True, exist_ok=True)
        super().__init__(binary, work, port)
        self.settings = settings

    def command(self):
        env, *rest = super().command()
        return [env, *(f"DEBROUILLE_{name}={value}" for name, value in self.settings.items()), *rest]

    def sign_in(self):
        # A password's hash costs more than many requests.
        super().sign_in()
        self.signed_in = self.cpu()

    def cpu(self):
        """Seconds of processor time so far, user and system (proc(5))."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def central_log():
    """Takes what it gets; answers its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def take(stream):
        while stream.recv(1 << 16):
            pass

    def accept():
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=take, args=[stream], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def collector():
    """Takes traces and lines over HTTP; answers its port."""

    class Taker(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def scrape_once(port):
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read()


def scrape(port):
    while True:
        time.sleep(1)
        try:
            scrape_once(port)
        except OSError:
            pass  # it has not begun yet, or has ended


def settings():
    """Of each instance."""
    full = {
        "LOG_SYSLOG": f"tcp://127.0.0.1:{central_log()}",
        "OTLP_ENDPOINT": f"http://127.0.0.1:{collector()}",
        "ALERTS_MAIL": "ops@bench.test",
    }
    return {
        "off": {"LOG": "off", "LOG_OUTPUT": "off"},
        "shipped": {},
        "all": full,
        "lines": full | {"LOG": "info,access=debug"},
    }


def main():
    parse = argparse.ArgumentParser()
    parse.add_argument("--appliance", required=True)
    parse.add_argument("--work", required=True)
    parse.add_argument("--documents", type=int, default=20_000)
    parse.add_argument("--rounds", type=int, default=5)
    parse.add_argument("--seconds", type=int, default=4)
    options = parse.parse_args()
    work = pathlib.Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    all = list(documents(options.documents))
    ids = work / "ids"
    ids.write_text("".join(document["id"] + "\n" for document in all))
    instances = {who: Instance(options.appliance, work / who, 18743 + number * 10, given)
                 for number, (who, given) in enumerate(settings().items())}
    for port in (18764, 18774):
        threading.Thread(target=scrape, args=[port], daemon=True).start()
    figures = {(who, operation): [] for who in instances for operation in OPERATIONS}
    try:
        for who, instance in instances.items():
            say(f"preparing {who}")
            instance.prepare(all)
            instance.start()
        for round in range(options.rounds):
            order = list(instances)
            order = order[round % 4:] + order[:round % 4]
            for operation, connections in OPERATIONS.items():
                for who in order:
                    rate, _, _ = load(instances[who], operation, connections, options.seconds, ids)
                    each = (instances[who].cpu() - instances[who].signed_in) / (rate * options.seconds) * 1e6
                    say(f"round {round + 1}: {operation} {who}: {rate:,.0f}/s, {each:.1f} µs of processor time each")
                    figures[who, operation].append((rate, each))
        print("| | nothing on | as shipped | everything on | and a line a request |\n|---|---|---|---|---|")
        for operation in OPERATIONS:
            medians = [[statistics.median(one) for one in zip(*figures[who, operation])] for who in instances]
            (rates, off), *others = medians
            others = [f"{rate:,.0f}/s ({rate / rates * 100:.1f} %), {each:.1f} µs ({each / off * 100:.1f} %)" for rate, each in others]
            print(f"| {operation} | {rates:,.0f}/s, {off:.1f} µs | {' | '.join(others)} |")
        for port in (18764, 18774):
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
            print(*(line for line in text.splitlines() if line.startswith("debrouille_collector_items_total")), sep="\n")
        made, held = 0, []
        while made < MILLION:
            rate, _, _ = load(instances["all"], "read", 16, 5, ids)
            made += rate * 5
            held.append((made, instances["all"].memory()))
            say(f"{made:,.0f} requests: {held[-1][1]:.1f} MiB")
        (first, before), (last, after) = held[0], held[-1]
        print(f"\nMemory after {first:,.0f} reads {before:.1f} MiB, after {last:,.0f} {after:.1f} MiB.")
    finally:
        for instance in instances.values():
            if instance.process:
                instance.stop()


if __name__ == "__main__":
    main()
