"""The audit log: how long an export takes to verify, written here as docs/audit.md says and by nothing of the
appliance's; and what it costs a reading to be told. Run by scripts/bench-audit.
"""

import argparse, base64, hashlib, json, pathlib, statistics, subprocess, time
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from compare import Appliance, documents, load, say

TILE = 256


def text(*parts):
    return base64.b64encode(b"".join(parts)).decode()


class Tree:
    """RFC 9162's, by its right edge: the roots of the full subtrees, the largest first."""

    def __init__(self):
        self.size, self.edge = 0, []

    def append(self, leaf):
        self.edge.append(leaf)
        self.size += 1
        size = self.size
        while size % 2 == 0:
            right, left = self.edge.pop(), self.edge.pop()
            self.edge.append(hashlib.sha256(b"\1" + left + right).digest())
            size //= 2

    def root(self):
        *rest, root = self.edge
        for left in reversed(rest):
            root = hashlib.sha256(b"\1" + left + root).digest()
        return root


class Signer:
    def __init__(self, name):
        self.name, self.key = name, Ed25519PrivateKey.generate()
        public = b"\1" + self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
        self.public = f"{name}+{self.id.hex()}+{text(public)}"

    def note(self, tree):
        said = f"{self.name}/1\n{tree.size}\n{text(tree.root())}\n"
        return f"{said}\n— {self.name} {text(self.id, self.key.sign(said.encode()))}\n"


def entry(index):
    """About what a change of a document takes."""
    image = hashlib.sha256(b"%d" % index).hexdigest()
    told = {
        "index": index, "time": "2027-01-15T08:00:00.000Z", "who": "~" + image[:32], "action": "documents.update",
        "outcome": "allowed", "object": "patients/01985c2e-0000-7000-8000-000000000001", "revision": 3,
        "why": "patients-staff@3", "before": image, "after": image, "request": "01985c2e-0000-7000-8000-000000000002",
        "trace": image[:32],
    }
    return json.dumps(told, separators=(",", ":")).encode()


def export(path, count):
    """Writes a log of so many entries; answers the key that signed it."""
    signer, tree = Signer("debrouille-appliance/bench"), Tree()
    with open(path.with_suffix(".body"), "wb") as body:
        for first in range(0, count, TILE):
            entries = [entry(index) for index in range(first, min(first + TILE, count))]
            leaves = [hashlib.sha256(b"\0" + told).digest() for told in entries]
            body.write(b'{"tile":%d,"hashes":"%s"}\n' % (first // TILE, text(*leaves).encode()))
            body.write(b"\n".join(entries) + b"\n")
            for leaf in leaves:
                tree.append(leaf)
            body.write(json.dumps({"checkpoint": signer.note(tree)}, ensure_ascii=False).encode() + b"\n")
        body.write(b'{"end":%d}\n' % count)
    header = {"audit": 1, "instance": "bench", "environment": "development", "lineage": 1, "keys": [signer.public],
              "size": count, "checkpoint": signer.note(tree)}
    with open(path, "wb") as whole:
        whole.write(json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        with open(path.with_suffix(".body"), "rb") as body:
            while part := body.read(1 << 20):
                whole.write(part)
    path.with_suffix(".body").unlink()
    return signer.public


def verification(binary, work, count, rounds):
    path = work / "log"
    say(f"writing {count:,} entries")
    key = export(path, count)
    command = [binary, "--lang", "en", "--quiet", "audit", "verify", path, "--key", key]
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - begun)
    print("| entries | size | verified in | aim |\n|---|---|---|---|")
    print(f"| {count:,} | {path.stat().st_size >> 20} MiB | {statistics.median(took):.1f} s | 10 s for a million |\n")
    # One letter of one entry, in the midst.
    with open(path, "r+b") as log:
        log.seek(path.stat().st_size // 2)
        at = log.tell() + log.read(4096).index(b'"why":"p') + len(b'"why":"')
        log.seek(at)
        log.write(b"q")
    found = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert found.returncode == 5, f"an edited log ended with {found.returncode}"


def readings(binary, work, options):
    all = list(documents(options.documents))
    ids = work / "ids"
    ids.write_text("".join(document["id"] + "\n" for document in all))
    appliance = Appliance(binary, work, 18645)
    say("preparing")
    appliance.prepare(all)
    appliance.start()
    figures = {(operation, told): [] for operation in ["read", "page"] for told in [False, True]}
    try:
        appliance.sign_in()
        for round in range(options.rounds):
            for operation in ["read", "page"]:
                for told in [False, True] if round % 2 == 0 else [True, False]:
                    appliance.call("PATCH", "/api/v1/collections/places", {"data": {"audit": {"reads": told}}})
                    rate, *rest = load(appliance, operation, options.connections, options.seconds, ids)
                    say(f"round {round + 1}: {operation}, {'told' if told else 'not told'}: {rate:,.0f}/s", *rest)
                    figures[operation, told].append(rate)
    finally:
        appliance.stop()
    print("| | not told | told | of it |\n|---|---|---|---|")
    for operation in ["read", "page"]:
        without, told = (statistics.median(figures[operation, told]) for told in [False, True])
        print(f"| {operation} | {without:,.0f}/s | {told:,.0f}/s | {told / without * 100:.0f} % |")


def main():
    parse = argparse.ArgumentParser()
    parse.add_argument("--appliance", required=True)
    parse.add_argument("--work", required=True)
    parse.add_argument("--entries", type=int, default=1_000_000)
    parse.add_argument("--documents", type=int, default=20_000)
    parse.add_argument("--connections", type=int, default=16)
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--seconds", type=int, default=4)
    options = parse.parse_args()
    work = pathlib.Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    verification(options.appliance, work, options.entries, options.rounds)
    readings(options.appliance, work, options)


if __name__ == "__main__":
    main()
