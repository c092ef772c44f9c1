"""A store sealed anew by its next key while it serves: how long that takes, and what requests notice. Run by
scripts/bench-secrets; prints Markdown."""

import argparse, os, pathlib, statistics, subprocess, threading, time
from backups import measured, own_ids
from compare import Appliance, documents, load, say
from writers import Writers

MIB = 2**20


class Secrets:
    def __init__(self, binary, work, count):
        self.appliance = Appliance(binary, work, 18746)
        lines = list(own_ids(documents(count)))
        self.ids = work / "ids"
        self.ids.write_text("".join(line["id"] + "\n" for line in lines[:100_000]))
        self.appliance.prepare(lines)

    def rewrite(self):
        """Seconds of a rotation with `--rewrite`."""
        data = self.appliance.data
        return measured([self.appliance.binary, "--data-dir", data, "--config", data / "appliance.toml", "--json", "secrets",
                         "rotate", "data", "--rewrite"], stderr=subprocess.DEVNULL)[0]

    def store(self):
        return (self.appliance.data / "documents.sealed").stat().st_size / MIB


def noticed(secrets, rounds, seconds):
    found, over = {}, threading.Event()

    def until_over():
        while not over.is_set():
            secrets.rewrite()

    for round in range(rounds):
        for what in ("quiet", "rewriting"):
            over.clear()
            thread = threading.Thread(target=until_over)
            if what == "rewriting":
                thread.start()
                time.sleep(1)
            for operation in ("read", "page", "create"):
                for pace in ("40", ""):
                    os.environ["PACE"] = pace
                    rate, p99, _ = load(secrets.appliance, operation, 16, seconds, secrets.ids)
                    say(f"round {round + 1}: {operation} {pace or 'full speed'} {what}: {rate:.0f}/s, {p99:.1f} ms")
                    found.setdefault((operation, pace), {}).setdefault(what, []).append((rate, p99))
            over.set()
            if what == "rewriting":
                thread.join()
    return found


def paused(secrets, rounds):
    """The longest time in which no write was acknowledged, in ms: quiet, and while pages move."""
    rows = []
    for _ in range(rounds):
        sides = []
        for run in (lambda: time.sleep(10), secrets.rewrite):
            secrets.appliance.sign_in()
            writers = Writers(secrets.appliance, 4)
            run()
            sides.append(writers.stop())
        rows.append(sides)
        say("pauses", sides)
    return rows


def main():
    parse = argparse.ArgumentParser()
    parse.add_argument("--appliance", required=True)
    parse.add_argument("--work", required=True)
    parse.add_argument("--documents", type=int, default=400_000)
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--seconds", type=int, default=5)
    options = parse.parse_args()
    work = pathlib.Path(options.work)
    work.mkdir(parents=True)
    say(f"preparing {options.documents:,} documents")
    secrets = Secrets(pathlib.Path(options.appliance).resolve(), work, options.documents)
    secrets.appliance.start()
    try:
        size = secrets.store()
        taken = statistics.median(secrets.rewrite() for _ in range(options.rounds))
        print(f"{options.documents:,} documents, a store of {size:,.0f} MiB; medians of {options.rounds} rounds\n")
        print(f"Sealed anew while nothing asks: {taken:.1f} s, {size / taken:,.0f} MiB/s.\n")
        print("| 16 connections | quiet | while pages move | p99 quiet | while pages move | ratio |\n|---|---|---|---|---|---|")
        for (operation, pace), sides in noticed(secrets, options.rounds, options.seconds).items():
            quiet, during = ([statistics.median(values) for values in zip(*sides[side])] for side in ("quiet", "rewriting"))
            print(f"| {operation}, {'every 40 ms' if pace else 'as fast as they come'} | {quiet[0]:,.0f}/s | "
                  f"{during[0]:,.0f}/s | {quiet[1]:.1f} ms | {during[1]:.1f} ms | {during[1] / quiet[1]:.2f} |", flush=True)
        print("\n| writes, 4 connections | rate | longest time without one | slowest |\n|---|---|---|---|")
        for sides in paused(secrets, options.rounds):
            for label, (rate, gap, slowest) in zip(("quiet", "while pages move"), sides):
                print(f"| {label} | {rate:,.0f}/s | {gap:.0f} ms | {slowest:.0f} ms |", flush=True)
    finally:
        secrets.appliance.stop()


if __name__ == "__main__":
    main()
