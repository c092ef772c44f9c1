"""What writers notice of a full backup: the longest time in which no write was acknowledged, and the slowest write, with
no backup and while one is made. Run by scripts/bench-backups.
"""

import argparse, http.client, json, os, pathlib, ssl, subprocess, threading, time
from compare import HOST, Appliance, documents, say


class Writers:
    """Threads that create documents one after the other, each over a connection of its own."""

    def __init__(self, appliance, count):
        self.appliance, self.ended, self.done, self.slowest = appliance, False, [], 0.0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.write, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def write(self, number):
        context = ssl.create_default_context(cafile=self.appliance.ca)
        connection = http.client.HTTPSConnection(HOST, self.appliance.port, context=context)
        headers = {"Authorization": f"Bearer {self.appliance.token}", "Content-Type": "application/json"}
        body = json.dumps({"data": {"name": f"Town {number}", "country": "C99", "population": 1, "note": "x" * 300}})
        while not self.ended:
            begun = time.perf_counter()
            connection.request("POST", "/api/v1/collections/places/documents", body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 201, answer.status
            now = time.perf_counter()
            with self.lock:
                self.done.append(now)
                self.slowest = max(self.slowest, now - begun)

    def stop(self):
        self.ended = True
        for thread in self.threads:
            thread.join()
        gaps = [later - before for before, later in zip(self.done, self.done[1:])]
        rate = len(self.done) / (self.done[-1] - self.done[0])
        return rate, max(gaps) * 1000, self.slowest * 1000


def main():
    parse = argparse.ArgumentParser()
    parse.add_argument("--appliance", required=True)
    parse.add_argument("--work", required=True)
    parse.add_argument("--documents", type=int, default=100_000)
    parse.add_argument("--connections", type=int, default=4)
    parse.add_argument("--rounds", type=int, default=3)
    options = parse.parse_args()
    work = pathlib.Path(options.work)
    work.mkdir(parents=True)
    appliance = Appliance(pathlib.Path(options.appliance).resolve(), work, 18745)
    say("preparing")
    key = work / "key"
    made = subprocess.run([appliance.binary, "--json", "backup", "keys", "generate", "-o", key], check=True,
                          capture_output=True)
    recipient = json.loads(made.stdout)["recipient"]
    appliance.prepare(documents(options.documents))
    # One full backup at the start, and nothing by the schedule meanwhile.
    os.environ.update(DEBROUILLE_RECIPIENT=recipient, DEBROUILLE_BACKUP_SEGMENT_SECONDS="86400")
    appliance.start()
    rows = []
    try:
        first = lambda: json.loads(appliance.run("--json", "backup", "plan", capture_output=True).stdout)
        while "full" not in first()["targets"][0]:
            time.sleep(1)
        for round in range(options.rounds):
            # A token is good for ten minutes.
            appliance.sign_in()
            writers = Writers(appliance, options.connections)
            begun = time.perf_counter()
            appliance.run("backup", "create", stdout=subprocess.DEVNULL)
            took = time.perf_counter() - begun
            during = writers.stop()
            writers = Writers(appliance, options.connections)
            time.sleep(took)
            without = writers.stop()
            say(f"round {round + 1}: {took:.1f} s", during, without)
            rows.append((took, without, during))
    finally:
        appliance.stop()
    print("| round | backup took | | writes | longest without one | slowest |\n|---|---|---|---|---|---|")
    for number, (took, without, during) in enumerate(rows, 1):
        for label, (rate, gap, slowest) in [("without", without), ("during", during)]:
            print(f"| {number} | {took:.1f} s | {label} | {rate:,.0f}/s | {gap:.0f} ms | {slowest:.0f} ms |")


if __name__ == "__main__":
    main()
