"""Backups beside restic: the same documents, one run, turns taken. What a backup and a restore take, in time, bytes and
memory; what requests notice meanwhile; what is lost when the machine dies. Run by scripts/bench-backups; prints Markdown.

restic is given a file of the documents, as `export` writes it, and in turns the instance's own files while nothing serves
them: all that a backup holds, as who has no backups of the appliance's would save it. Its own time alone counts.
"""

import argparse, json, os, pathlib, random, shutil, signal, statistics, subprocess, threading, time, uuid
from datetime import datetime, timezone
from compare import Appliance, documents, load, say
from writers import Writers

MIB = 2**20


def measured(command, **more):
    """Seconds, and the most memory in MiB, of a command that must succeed; its output."""
    begun, highest = time.perf_counter(), [0]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **more)

    def watch():
        # wait4 would count this process too, as it was at the fork.
        while child.returncode is None:
            try:
                highest[0] = peak(child.pid)
            except (OSError, StopIteration):
                return
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out = child.stdout.read()
    child.wait()
    taken = time.perf_counter() - begun
    watcher.join()
    if child.returncode:
        raise SystemExit(f"{command[0]} ended with {child.returncode}: {out[-500:]!r}")
    return taken, highest[0], out


def peak(pid):
    """The most memory a process has had, in MiB."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def size(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / MIB


class Restic:
    def __init__(self, work):
        self.repository, self.out = work / "restic", work / "restic-restored"
        self.environment = {**os.environ, "RESTIC_REPOSITORY": str(self.repository), "RESTIC_PASSWORD": "benchmark",
                            "RESTIC_CACHE_DIR": str(work / "restic-cache")}

    def run(self, *arguments):
        return measured(["restic", "--quiet", *map(str, arguments)], env=self.environment, stderr=subprocess.DEVNULL)

    def backup(self, path):
        self.begin()
        return self.run("backup", path)

    def begin(self):
        shutil.rmtree(self.repository, ignore_errors=True)
        self.run("init")

    def backup_beside(self, path):
        """As the appliance's own do, it lets others come first."""
        self.begin()
        measured(["nice", "-n", "10", "restic", "--quiet", "backup", path], env=self.environment, stderr=subprocess.DEVNULL)

    def check(self):
        return self.run("check", "--read-data")

    def restore(self):
        shutil.rmtree(self.out, ignore_errors=True)
        taken = self.run("restore", "latest", "--target", self.out)
        shutil.rmtree(self.out)
        return taken


def own_ids(lines):
    """In the order of time, as the appliance makes them (UUIDv7)."""
    rng = random.Random(11)
    for number, line in enumerate(lines):
        time = 0x19A_0000_0000 + number // 5
        line["id"] = str(uuid.UUID(int=time << 80 | 7 << 76 | rng.getrandbits(76)))
        yield line


class Backups:
    """An instance with a folder beside it for backups."""

    def __init__(self, binary, work, count, random_ids=False):
        self.work, self.place, self.into = work, work / "backups", work / "restored"
        self.place.mkdir()
        self.appliance = Appliance(binary, work, 18745)
        self.key = work / "key"
        made = measured([binary, "--json", "backup", "keys", "generate", "-o", self.key])[2]
        os.environ.update(DEBROUILLE_BACKUP_RECIPIENTS=json.loads(made)["recipient"],
                          DEBROUILLE_BACKUP_TARGETS=f"beside={self.place}")
        lines = list(documents(count) if random_ids else own_ids(documents(count)))
        self.ids = work / "ids"
        self.ids.write_text("".join(line["id"] + "\n" for line in lines[:100_000]))
        self.appliance.prepare(lines)

    def command(self, *arguments):
        data = self.appliance.data
        return [self.appliance.binary, "--data-dir", data, "--config", data / "appliance.toml", "--lang", "en", "--json",
                *arguments]

    def ask(self, *arguments):
        return json.loads(measured(self.command(*arguments), stderr=subprocess.DEVNULL)[2])

    def wait_for_first(self):
        for _ in range(600):
            if "full" in self.ask("backup", "plan")["targets"][0]:
                return
            time.sleep(1)
        raise SystemExit("no backup was made")

    def backup(self):
        """Seconds, and the most memory of the server meanwhile."""
        pid = self.appliance.process.pid
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
        taken, _, _ = measured(self.command("backup", "create"), stderr=subprocess.DEVNULL)
        return taken, peak(pid)

    def newest(self, kind):
        return max(self.place.glob(f"*-{kind}-*.backup")).stat().st_size / MIB

    def verify(self):
        return measured(self.command("backup", "verify"), stderr=subprocess.DEVNULL)

    def restore(self, *more):
        shutil.rmtree(self.into, ignore_errors=True)
        arguments = ["restore", "--from", self.place, "--identity", self.key, "--any-signer", "--into", self.into,
                     "--environment", "development", *more]
        taken = measured(self.command(*arguments), stderr=subprocess.DEVNULL)
        return *taken[:2], json.loads(taken[2])


def beside_restic(backups, restic, rounds):
    """Rows of medians: what, seconds, MiB, memory."""
    ndjson = backups.work / "exported" / "places.ndjson"
    ndjson.parent.mkdir()
    with open(ndjson, "wb") as out:
        subprocess.run(backups.command("export", "places"), check=True, stdin=subprocess.DEVNULL, stdout=out,
                       stderr=subprocess.DEVNULL)
    found, sizes = {}, {}

    def turn(round, what, run):
        taken, memory = run()[:2]
        say(f"round {round + 1}: {what}: {taken:.1f} s, {memory:.0f} MiB")
        found.setdefault(what, []).append((taken, memory))

    for round in range(rounds):
        ours = [("backup, read back and checked", lambda: backups.backup()),
                ("restore, ready to serve", lambda: backups.restore("--latest")[:2])]
        theirs = [("restic backup", lambda: restic.backup(ndjson)), ("restic check --read-data", restic.check),
                  ("restic restore", restic.restore)]
        files = backups.appliance.data
        at_rest = [("restic backup of the instance's files", lambda: restic.backup(files)),
                   ("restic check --read-data of them", restic.check), ("restic restore of them", restic.restore)]
        for what, run in ours + theirs if round % 2 == 0 else theirs + ours:
            turn(round, what, run)
            if what == "restic backup":
                sizes[what] = size(restic.repository)
        backups.appliance.stop()
        for what, run in at_rest:
            turn(round, what, run)
        sizes[at_rest[0][0]] = size(restic.repository)
        backups.appliance.start()
    data = ndjson.stat().st_size / MIB
    sizes["backup, read back and checked"] = backups.newest("full")
    rows = [(what, *(statistics.median(values) for values in zip(*all)), sizes.get(what)) for what, all in found.items()]
    shutil.rmtree(backups.into, ignore_errors=True)
    return data, rows


def noticed(backups, restic, rounds, seconds):
    """Requests with nothing beside, during a backup, and while restic reads the instance's files, at a pace and as fast as
    they come: requests a second, p99 in ms."""
    found = {}
    over = threading.Event()

    def until_over(run):
        while not over.is_set():
            run()

    beside = {"quiet": None, "backup": backups.backup, "restic": lambda: restic.backup_beside(backups.appliance.data)}
    for round in range(rounds):
        for what, run in beside.items():
            over.clear()
            thread = threading.Thread(target=until_over, args=(run,))
            if run:
                thread.start()
                time.sleep(2)
            for operation in ("read", "page", "create"):
                for pace in ("40", ""):
                    os.environ["PACE"] = pace
                    rate, p99, _ = load(backups.appliance, operation, 16, seconds, backups.ids)
                    say(f"round {round + 1}: {operation} {pace or 'full speed'} {what}: {rate:.0f}/s, {p99:.1f} ms")
                    found.setdefault((operation, pace), {}).setdefault(what, []).append((rate, p99))
            over.set()
            if run:
                thread.join()
    return found


def paused(backups, rounds):
    """The longest time in which no write was acknowledged, and the slowest write, in ms."""
    rows = []
    for _ in range(rounds):
        backups.appliance.sign_in()
        writers = Writers(backups.appliance, 4)
        taken, _ = backups.backup()
        during = writers.stop()
        writers = Writers(backups.appliance, 4)
        time.sleep(min(taken, 30))
        rows.append((writers.stop(), during))
        say("pauses", rows[-1])
    return rows


def lost(backups, kills):
    """Seconds between the last change that comes back and the death of the process, under writes; every second time
    while a full backup is made."""
    rows, chance = [], random.Random(5)
    for kill in range(kills):
        backups.appliance.sign_in()
        writers = Writers(backups.appliance, 4, pause=0.02)
        time.sleep(chance.uniform(70, 130))
        full = kill % 2 == 1
        if full:
            asked = subprocess.Popen(backups.command("backup", "create"), stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(chance.uniform(1, 5))
        died = datetime.now(timezone.utc)
        backups.appliance.process.send_signal(signal.SIGKILL)
        backups.appliance.process.wait()
        writers.give_up()
        if full:
            asked.wait()
        point = backups.restore("--latest", "--dry-run", "--allow-older")[2]["point"]
        loss = (died - datetime.fromisoformat(point["time"].replace("Z", "+00:00"))).total_seconds()
        say(f"killed{' during a full backup' if full else ''}: {loss:.1f} s lost")
        rows.append((full, loss))
        backups.appliance.start()
    return rows


def main():
    parse = argparse.ArgumentParser()
    parse.add_argument("--appliance", required=True)
    parse.add_argument("--work", required=True)
    parse.add_argument("--documents", type=int, default=1_800_000)
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--seconds", type=int, default=6)
    parse.add_argument("--kills", type=int, default=4)
    parse.add_argument("--random-ids", action="store_true")
    options = parse.parse_args()
    work = pathlib.Path(options.work)
    work.mkdir(parents=True)
    say(f"preparing {options.documents:,} documents")
    backups = Backups(pathlib.Path(options.appliance).resolve(), work, options.documents, options.random_ids)
    backups.appliance.start()
    try:
        backups.wait_for_first()
        restic = Restic(work)
        data, rows = beside_restic(backups, restic, options.rounds)
        print(f"{options.documents:,} documents, {data:,.0f} MiB as NDJSON; medians of {options.rounds} rounds\n")
        print("| | takes | of the NDJSON | memory | size |\n|---|---|---|---|---|")
        for what, taken, memory, bytes in rows:
            print(f"| {what} | {taken:.1f} s | {data / taken:,.0f} MiB/s | {memory:,.0f} MiB | "
                  f"{f'{bytes:,.0f} MiB' if bytes else ''} |", flush=True)
        print("\n| 16 connections | quiet | during a backup | p99 quiet | during a backup | beside restic | ratios |")
        print("|---|---|---|---|---|---|---|")
        for (operation, pace), sides in noticed(backups, restic, options.rounds, options.seconds).items():
            quiet, during, other = ([statistics.median(values) for values in zip(*sides[side])]
                                    for side in ("quiet", "backup", "restic"))
            print(f"| {operation}, {'every 40 ms' if pace else 'as fast as they come'} | {quiet[0]:,.0f}/s | "
                  f"{during[0]:,.0f}/s | {quiet[1]:.1f} ms | {during[1]:.1f} ms | {other[1]:.1f} ms | "
                  f"{during[1] / quiet[1]:.2f}, {other[1] / quiet[1]:.2f} |", flush=True)
        print("\n| writes, 4 connections | rate | longest time without one | slowest |\n|---|---|---|---|")
        for sides in paused(backups, options.rounds):
            for label, (rate, gap, slowest) in zip(("quiet", "during a backup"), sides):
                print(f"| {label} | {rate:,.0f}/s | {gap:.0f} ms | {slowest:.0f} ms |", flush=True)
        print("\n| killed | lost |\n|---|---|")
        for full, loss in lost(backups, options.kills):
            print(f"| {'during a full backup' if full else 'between full backups'} | {loss:.1f} s |", flush=True)
    finally:
        backups.appliance.stop()


if __name__ == "__main__":
    main()
