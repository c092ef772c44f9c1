"""What watching itself costs, in instructions: the same requests to the instances of telemetry.py under valgrind's callgrind, which counts what
the program executes, whatever else the machine does. What it executes while nobody asks is counted first and taken off, since under valgrind a
second holds few requests. The kernel's share is not counted, so that the ratios are worse than those of whole requests. Medians of the rounds.
Run by scripts/bench-telemetry.
"""

import argparse, http.client, json, pathlib, re, ssl, statistics, subprocess, time
from compare import HOST, documents, say
from telemetry import Instance, scrape_once, settings

QUERY = "filter=%7B%22country%22%3A%22C07%22%2C%22population%22%3A%7B%22%24gt%22%3A1000000%7D%7D&sort=%7B%22population%22%3A1%7D&limit=20"
# Instructions in five seconds.
QUIET = 10_000_000
PLACES = "/api/v1/collections/places/documents"


class Counted(Instance):
    def command(self):
        command = super().command()
        at = command.index(self.binary)
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self.work}/counted"]
        return [*command[:at], *tool, *command[at:]]

    def start(self):
        self.log = open(self.work / "appliance.log", "ab")
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        for _ in range(300):
            try:
                return self.call("GET", self.health)
            except OSError:
                time.sleep(0.5)
        raise SystemExit(f"not ready under valgrind; see {self.log.name}")

    def count(self):
        """Instructions since the last time this was asked."""
        for file in self.work.glob("counted*"):
            file.unlink()
        subprocess.run(["callgrind_control", "--dump", str(self.process.pid)], check=True, capture_output=True)
        for _ in range(100):
            for file in self.work.glob("counted*"):
                if found := re.search(r"^(?:totals|summary): (\d+)", file.read_text(), re.M):
                    return int(found[1])
            time.sleep(0.1)
        raise SystemExit("callgrind told nothing")

    def settle(self):
        """Until what a start sets going, the measuring of password hashes above all, is over."""
        self.count()
        for _ in range(60):
            time.sleep(5)
            if self.count() < QUIET:
                return
        raise SystemExit("it does not come to rest")

    def requests(self, all):
        """Each operation, as one request of its number over a connection that stays."""
        connection = http.client.HTTPSConnection(HOST, self.port, context=ssl.create_default_context(cafile=self.ca))

        def ask(method, path, body=None):
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 300:
                raise SystemExit(f"{method} {path}: {answer.status} {text[:300]!r}")

        def create(number):
            document = {name: value for name, value in all[number % len(all)].items() if name != "id"}
            ask("POST", PLACES, json.dumps({"data": document}))

        return {
            "empty": lambda _: ask("GET", "/api/v1/health"),
            "read": lambda number: ask("GET", f"{PLACES}/{all[number % len(all)]['id']}"),
            "page": lambda _: ask("GET", f"{PLACES}?{QUERY}"),
            "create": create,
        }


def measured(instance, all, rounds, requests):
    instance.prepare(all)
    instance.start()
    instance.sign_in()
    instance.settle()
    begun = time.monotonic()
    time.sleep(20)
    idle = instance.count() / (time.monotonic() - begun)
    figures = {}
    for operation, ask in instance.requests(all).items():
        for number in range(200):
            ask(number)
        counts = []
        for _ in range(rounds):
            instance.count()
            begun = time.monotonic()
            for number in range(requests):
                ask(number)
            lasted = time.monotonic() - begun
            counts.append((instance.count() - idle * lasted) / requests)
        figures[operation] = statistics.median(counts)
        say(f"{instance.work.name} {operation}: {', '.join(f'{count:,.0f}' for count in counts)}")
    instance.count()
    begun = time.monotonic()
    scrape_once(instance.port + 1)
    scrape = instance.count() - idle * (time.monotonic() - begun)
    instance.stop()
    return figures, idle, scrape


def main():
    parse = argparse.ArgumentParser()
    parse.add_argument("--appliance", required=True)
    parse.add_argument("--work", required=True)
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--requests", type=int, default=1500)
    options = parse.parse_args()
    work, all = pathlib.Path(options.work), list(documents(2000))
    work.mkdir(parents=True, exist_ok=True)
    told = {}
    for number, (who, given) in enumerate(settings().items()):
        instance = Counted(options.appliance, work / who, 18743 + number * 10, given)
        told[who] = measured(instance, all, options.rounds, options.requests)
    print("\n| instructions | nothing on | as shipped | everything on | and a line a request |\n|---|---|---|---|---|")
    off = told["off"][0]
    for operation, base in off.items():
        others = [f"{figures[operation]:,.0f} ({figures[operation] / base * 100:.1f} %)" for figures, _, _ in told.values()]
        print(f"| {operation} | {' | '.join(others)} |")
    print(f"| a second at rest | {' | '.join(f'{idle:,.0f}' for _, idle, _ in told.values())} |")
    print(f"| a look at /metrics | {' | '.join(f'{scrape:,.0f}' for _, _, scrape in told.values())} |")


if __name__ == "__main__":
    main()
