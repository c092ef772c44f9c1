"""The appliance beside PocketBase: same documents, both over TLS, rounds interleaved, medians and ratios.

Run by scripts/bench. Checks before measuring that both answer the same page, and after each round that no request
failed. Prints Markdown.
"""

import argparse, http.client, json, os, pathlib, platform, random, shutil, sqlite3, ssl, statistics, string
import subprocess, sys, threading, time

HERE = pathlib.Path(__file__).parent
HOST = "bench.test"
PASSWORD = "a long bench password 1"
EMAIL = "admin@bench.test"


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def documents(count):
    """Deterministic, about 500 bytes each as JSON."""
    rng = random.Random(7)
    letters = string.ascii_lowercase + string.digits
    for number in range(count):
        yield {
            "id": "".join(rng.choices(letters, k=15)),
            "name": f"Town {number}",
            "country": f"C{rng.randrange(50):02d}",
            "population": rng.randrange(5_000_000),
            "category": f"K{rng.randrange(10)}",
            "active": rng.random() < 0.5,
            "note": "".join(rng.choices(letters + "     ", k=340)),
        }


class Server:
    """A process that serves HTTPS, its token, its memory."""

    def __init__(self, port, ca):
        self.port, self.ca, self.process, self.token = port, ca, None, None

    def call(self, method, path, body=None, headers=None):
        context = ssl.create_default_context(cafile=self.ca)
        connection = http.client.HTTPSConnection(HOST, self.port, context=context, timeout=60)
        headers = {"Content-Type": "application/json", **(headers or {})}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")
        return json.loads(text) if text else None

    def start(self):
        """Seconds until the first healthy answer over TLS."""
        self.log = open(self.work / f"{self.name}.log", "ab")
        begun = time.perf_counter()
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        while True:
            try:
                token, self.token = self.token, None
                self.call("GET", self.health)
                self.token = token
                return time.perf_counter() - begun
            except (OSError, http.client.HTTPException, RuntimeError):
                self.token = token
                if self.process.poll() is not None:
                    sys.exit(f"{self.name} ended; see {self.log.name}")
                if time.perf_counter() - begun > 60:
                    sys.exit(f"{self.name} is not ready after 60 s; see {self.log.name}")
                time.sleep(0.002)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def memory(self):
        """Resident set, in MiB."""
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024

    def size(self):
        """What the files of the data take, in MiB."""
        return sum(f.stat().st_blocks * 512 for f in self.data.rglob("*") if f.is_file()) / 2**20


class Appliance(Server):
    name, health = "appliance", "/api/v1/health"

    def __init__(self, binary, work, port):
        self.binary, self.work, self.data = binary, work, work / "appliance"
        super().__init__(port, str(work / "appliance-ca.pem"))

    def run(self, *arguments, **more):
        base = [self.binary, "--data-dir", self.data, "--config", self.data / "appliance.toml", "--lang", "en"]
        return subprocess.run([*base, *arguments], check=True, stdin=subprocess.DEVNULL, **more)

    def command(self):
        # One identity asks for everything: counted as ever, never refused.
        return ["env", "DEBROUILLE_LIMITS_REQUESTS_PER_MINUTE=100000000", self.binary, "--data-dir", self.data,
                "--config", self.data / "appliance.toml", "serve", "--https", f"127.0.0.1:{self.port}", "--http", "off",
                "--ops", f"127.0.0.1:{self.port + 1}"]

    def prepare(self, lines):
        password = self.work / "password"
        password.write_text(PASSWORD)
        self.run("init", "--environment", "development", "--hostname", HOST, "--admin-email", EMAIL,
                 "--admin-password-file", password, stdout=sys.stderr)
        with open(self.ca, "wb") as ca:
            self.run("tls", "ca", "export", stdout=ca)
        self.run("collection", "create", "places", "--index", "country,population", stdout=sys.stderr)
        source = self.work / "places.ndjson"
        with open(source, "w") as out:
            for line in lines:
                document = dict(line)
                out.write(json.dumps({"_id": document.pop("id"), **document}) + "\n")
        self.run("import", "places", source, stdout=sys.stderr)

    def sign_in(self):
        self.token = None
        body = {"data": {"email": EMAIL, "password": PASSWORD}}
        self.token = self.call("POST", "/api/v1/auth/login", body)["data"]["accessToken"]

    def page(self):
        query = "filter=%7B%22country%22%3A%22C07%22%2C%22population%22%3A%7B%22%24gt%22%3A1000000%7D%7D"
        query += "&sort=%7B%22population%22%3A1%7D&limit=20"
        answer = self.call("GET", f"/api/v1/collections/places/documents?{query}")
        return [document["_id"] for document in answer["data"]]


class PocketBase(Server):
    name, health = "pocketbase", "/api/health"

    def __init__(self, binary, work, port):
        self.binary, self.work, self.data = binary, work, work / "pocketbase"
        super().__init__(port, str(work / "pocketbase-cert.pem"))

    def command(self):
        return [self.binary, "serve", HOST, "--dir", self.data, "--https", f"127.0.0.1:{self.port}",
                "--http", f"127.0.0.1:{self.port + 1}"]

    def prepare(self, lines):
        # It looks for a certificate in its ACME cache before it asks for one.
        cache = self.data / ".autocert_cache"
        cache.mkdir(parents=True)
        key = self.work / "pocketbase-key.pem"
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
        subprocess.run(["openssl", "req", "-x509", "-key", key, "-days", "365", "-subj", f"/CN={HOST}", "-addext",
                        f"subjectAltName=DNS:{HOST}", "-out", self.ca], check=True)
        (cache / HOST).write_text(key.read_text() + pathlib.Path(self.ca).read_text())
        subprocess.run([self.binary, "superuser", "upsert", EMAIL, PASSWORD, "--dir", self.data], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.start()
        self.sign_in()
        field = lambda name, kind: {"name": name, "type": kind}
        self.call("POST", "/api/collections", {
            "name": "places", "type": "base",
            "fields": [field("name", "text"), field("country", "text"), field("population", "number"),
                       field("category", "text"), field("active", "bool"), field("note", "text")],
            "indexes": ["CREATE INDEX places_country_population ON places (country, population)"]})
        self.stop()
        # Its import of many rows is row by row over HTTP; the same rows by SQL are the same file.
        columns = ["id", "name", "country", "population", "category", "active", "note"]
        with sqlite3.connect(self.data / "data.db") as database:
            database.executemany(f"INSERT INTO places ({','.join(columns)}) VALUES ({','.join('?' * len(columns))})",
                                 ([line[column] for column in columns] for line in lines))
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()

    def sign_in(self):
        self.token = None
        body = {"identity": EMAIL, "password": PASSWORD}
        self.token = self.call("POST", "/api/collections/_superusers/auth-with-password", body)["token"]

    def page(self):
        query = "perPage=20&sort=population&filter=country%3D%22C07%22%26%26population%3E1000000"
        answer = self.call("GET", f"/api/collections/places/records?{query}")
        return [record["id"] for record in answer["items"]]


def load(server, operation, connections, seconds, ids):
    """Requests a second and the 99th percentile in ms of one round of wrk; the highest memory seen."""
    server.sign_in()
    token = server.work / "token"
    token.write_text(server.token)
    highest, over = [server.memory()], threading.Event()

    def watch():
        while not over.wait(0.1):
            highest[0] = max(highest[0], server.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        out = subprocess.run(["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "10s", "-s",
                              HERE / "load.lua", f"https://{HOST}:{server.port}", "--", server.name, operation, ids, token],
                             check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    finally:
        over.set()
        watcher.join()
    result = json.loads(next(line for line in out.splitlines() if line.startswith("RESULT"))[7:])
    if result["failed"] or not result["requests"]:
        sys.exit(f"{server.name} {operation}: {result['failed']} of {result['requests']} requests failed\n{out}")
    return result["requests"] / result["micros"] * 1e6, result["p99"] / 1000, highest[0]


def main():
    parse = argparse.ArgumentParser()
    for name in ("appliance", "pocketbase", "work"):
        parse.add_argument(f"--{name}", required=True)
    parse.add_argument("--documents", type=int, default=100_000)
    parse.add_argument("--rounds", type=int, default=5)
    parse.add_argument("--seconds", type=int, default=8)
    options = parse.parse_args()
    work = pathlib.Path(options.work).absolute()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    ours, theirs = Appliance(options.appliance, work, 18443), PocketBase(options.pocketbase, work, 18543)
    servers = [ours, theirs]

    lines = list(documents(options.documents))
    ids = work / "ids"
    ids.write_text("\n".join(line["id"] for line in lines) + "\n")
    for server in servers:
        say(f"loading {len(lines)} documents into {server.name}")
        server.prepare(lines)
    sizes = [server.size() for server in servers]
    starts = {server.name: [] for server in servers}
    for _ in range(options.rounds):
        for server in servers:
            starts[server.name].append(server.start() * 1000)
            server.stop()
    say("start-up, ms:", starts)
    idle = []
    try:
        for server in servers:
            server.start()
        time.sleep(2)
        idle = [server.memory() for server in servers]
        for server in servers:
            server.sign_in()
        expected = sorted((line for line in lines if line["country"] == "C07" and line["population"] > 1_000_000),
                          key=lambda line: line["population"])[:20]
        for server in servers:
            if server.page() != [line["id"] for line in expected]:
                sys.exit(f"{server.name} answers another page than expected: {server.page()}")

        rows = [("empty route", "empty", "empty", 16), ("read by id", "read", "read", 16),
                ("filtered, sorted page of 20", "page", "page", 16),
                ("the same, PocketBase counting the total (its default)", "page", "page_total", 16),
                ("update by id", "update", "update", 16), ("create, 16 connections", "create", "create", 16),
                ("create, 64 connections", "create", "create", 64)]
        measured, peak = {}, [0, 0]
        for title, *operations, connections in rows:
            found = [[], []]
            for round_ in range(options.rounds):
                # A, B, then B, A: neither is always the one that finds a warm machine.
                for which in ((0, 1), (1, 0))[round_ % 2]:
                    result = load(servers[which], operations[which], connections, options.seconds, ids)
                    found[which].append(result)
                    peak[which] = max(peak[which], result[2])
            measured[title] = [(statistics.median(r[0] for r in side), statistics.median(r[1] for r in side),
                                min(r[0] for r in side), max(r[0] for r in side)) for side in found]
            say(title, [f"{side[0]:.0f}/s ({side[2]:.0f}–{side[3]:.0f}), p99 {side[1]:.1f} ms" for side in measured[title]])
    finally:
        for server in servers:
            if server.process and server.process.poll() is None:
                server.stop()

    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    print(f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GiB, Linux {platform.release()}; {options.documents:,} documents; "
          f"medians of {options.rounds} interleaved rounds of {options.seconds} s, wrk with one thread on the same machine.\n")
    print("| | appliance | PocketBase 0.40.6 | ratio | p99, ms | of our empty route |")
    print("|---|---|---|---|---|---|")
    ceiling = measured["empty route"][0][0]
    for title, (a, b) in measured.items():
        print(f"| {title} | {a[0]:,.0f}/s | {b[0]:,.0f}/s | {a[0] / b[0]:.1f}× | {a[1]:.1f} / {b[1]:.1f} | {a[0] / ceiling:.0%} |")
    start = [statistics.median(starts[server.name]) for server in servers]
    for title, unit, (a, b) in [("start-up to ready", "ms", start), ("memory, idle", "MiB", idle),
                                ("memory, highest under load", "MiB", peak), ("size on disk, before the load", "MiB", sizes)]:
        print(f"| {title} | {a:,.0f} {unit} | {b:,.0f} {unit} | {a / b:.2f} of it | | |")


if __name__ == "__main__":
    main()
