"""The signing side of updates: a repository of The Update Framework, kept by several people with keys that never meet.
Run by scripts/release-repository, which says how; docs/signing.md is the ceremony.
"""

import argparse
import copy
import getpass
import hashlib
import os
import pathlib
import sys
from datetime import datetime, timedelta, timezone

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.exceptions import StorageError
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    TOP_LEVEL_ROLE_NAMES,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

# Long enough for a disk that is carried: docs/signing.md says what each length means.
DAYS = {"root": 730, "targets": 365, "snapshot": 90, "timestamp": 90}
THRESHOLDS = {"root": 2, "targets": 2, "snapshot": 1, "timestamp": 1}
# What is none of these is listed to be signed, and no machine takes it.
KINDS = {".deb": "deb", ".rpm": "rpm", ".tar.gz": "archive"}
# Whoever holds the keys of root and targets is to be gathered, which takes its time.
SOON = timedelta(days=90)
SERIALIZER = JSONSerializer(compact=False)


def stop(words):
    sys.exit(f"error: {words}")


def now():
    return datetime.now(timezone.utc).replace(microsecond=0)


# Files: whole or not at all, and each on disk before what names it.


def sync(folder):
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def write(path, data, mode=0o644):
    staged = path.with_name(f".{path.name}.new")
    staged.unlink(missing_ok=True)
    with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(staged, path)
    sync(path.parent)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Keys.


def passphrase(arguments, twice=False):
    if arguments.passphrase_file:
        return pathlib.Path(arguments.passphrase_file).read_bytes().rstrip(b"\n")
    words = getpass.getpass("Passphrase: ")
    if twice and getpass.getpass("Once more: ") != words:
        stop("the two differ; start again")
    if twice and len(words) < 12:
        stop("a passphrase has twelve characters at least; start again")
    return words.encode()


def signer(path, arguments):
    try:
        key = serialization.load_pem_private_key(pathlib.Path(path).read_bytes(), passphrase(arguments))
    except (OSError, ValueError, TypeError) as error:
        stop(f"{path}: {error}")
    return CryptoSigner(key)


def public(path):
    try:
        key = serialization.load_pem_public_key(pathlib.Path(path).read_bytes())
        return SSlibKey.from_crypto(key)
    except (OSError, ValueError) as error:
        stop(f"{path}: {error} (the public half is asked for: FILE.pub)")


def make_key(arguments):
    path = pathlib.Path(arguments.file)
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase(arguments, twice=True)),
    )
    half = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    other = path.with_name(path.name + ".pub")
    if path.exists() or other.exists():
        stop(f"{path} is there already; give another name")
    write(path, private, 0o600)
    write(other, half)
    print(f"{path}: keep it off every network. {other} may be given to anyone.")
    print(f"key {SSlibKey.from_crypto(key.public_key()).keyid}")


# The repository: `metadata` and `targets` are what is published, `staged` what waits for signatures.


class Repository:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.metadata = self.folder / "metadata"
        self.targets = self.folder / "targets"
        self.staged = self.folder / "staged"

    def read(self, path, kind):
        try:
            found = Metadata.from_file(str(path))
        except (RepositoryError, StorageError, OSError, ValueError) as error:
            stop(f"{path}: {error}")
        if not isinstance(found.signed, kind):
            stop(f"{path} is no {kind.type} metadata")
        return found

    def newest(self, kind):
        """The published one of a role, `None` before the first."""
        if kind is Timestamp:
            path = self.metadata / "timestamp.json"
            return self.read(path, kind) if path.exists() else None
        versions = [path for path in self.metadata.glob(f"[0-9]*.{kind.type}.json")]
        if not versions:
            return None
        return self.read(max(versions, key=lambda path: int(path.name.split(".")[0])), kind)

    def current(self, kind):
        """What a published timestamp leads to: a publication that was cut short is not counted."""
        if kind is Root or kind is Timestamp:
            return self.newest(kind)
        timestamp = self.newest(Timestamp)
        if timestamp is None:
            return None
        snapshot = self.metadata / f"{timestamp.signed.snapshot_meta.version}.snapshot.json"
        snapshot = self.read(snapshot, Snapshot)
        if kind is Snapshot:
            return snapshot
        version = snapshot.signed.meta["targets.json"].version
        return self.read(self.metadata / f"{version}.targets.json", Targets)

    def root(self):
        """Who may sign: the root that is waiting, else the newest published one."""
        staged = self.staged / "root.json"
        return self.read(staged, Root) if staged.exists() else self.newest(Root)

    def stage(self, metadata):
        self.staged.mkdir(parents=True, exist_ok=True)
        write(self.staged / f"{metadata.signed.type}.json", metadata.to_bytes(SERIALIZER))

    def draft(self, kind, arguments):
        """What is to be changed: the one that waits, its signatures void, else one that follows the published one."""
        before = self.current(kind)
        staged = self.staged / f"{kind.type}.json"
        if staged.exists():
            draft = self.read(staged, kind)
            # A publication that was cut at its very end leaves what is published already.
            if before is None or draft.signed.version > before.signed.version:
                draft.signatures.clear()
                if arguments.days is not None:
                    draft.signed.expires = expiry(arguments, kind.type)
                return draft
        if before is None:
            stop("nothing is published yet: init, sign, publish")
        return renewed(copy.deepcopy(before.signed), arguments)

    def signatures(self, metadata):
        """What is still missing, in words; nothing: it is signed by enough."""
        role, missing = metadata.signed.type, []
        authorities = [("the new root", metadata)] if role == "root" else [("the root", self.root())]
        if role == "root" and (before := self.newest(Root)) is not None:
            if metadata.signed.version != before.signed.version + 1:
                missing.append(f"version {before.signed.version + 1}, not {metadata.signed.version}")
            authorities.insert(0, ("the published root", before))
        for name, authority in authorities:
            result = authority.signed.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
            if not result.verified:
                missing.append(f"{len(result.signed)} of {result.threshold} signatures that {name} asks for")
        return missing


def expiry(arguments, role):
    return now() + timedelta(days=arguments.days if arguments.days is not None else DAYS[role])


def renewed(signed, arguments):
    signed.version += 1
    signed.expires = expiry(arguments, signed.type)
    return Metadata(signed)


def keys_of(arguments, root, changed):
    for role in TOP_LEVEL_ROLE_NAMES:
        given = getattr(arguments, role)
        if not given and not changed:
            stop(f"name the public keys of {role}: --{role} FILE.pub…")
        if given:
            for keyid in list(root.roles[role].keyids):
                root.revoke_key(keyid, role)
            for path in given:
                root.add_key(public(path), role)
        threshold = getattr(arguments, f"{role}_threshold")
        if threshold is not None:
            root.roles[role].threshold = threshold
        elif not changed:
            root.roles[role].threshold = THRESHOLDS[role]
        if len(root.roles[role].keyids) < root.roles[role].threshold:
            stop(f"{role}: {root.roles[role].threshold} signatures of {len(root.roles[role].keyids)} keys cannot be")


def init(arguments):
    repository = Repository(arguments.repository)
    if repository.metadata.exists() or repository.staged.exists():
        stop(f"{repository.folder} holds a repository already; rotate changes its keys")
    root = Root(consistent_snapshot=True, expires=expiry(arguments, "root"))
    keys_of(arguments, root, changed=False)
    repository.stage(Metadata(root))
    repository.stage(Metadata(Targets(expires=now() + timedelta(days=DAYS["targets"]))))
    print("staged: root.json, targets.json; now sign each (`sign root`, `sign targets`), then `publish`.")


def rotate(arguments):
    repository = Repository(arguments.repository)
    if repository.newest(Root) is None:
        stop("there is no published root yet")
    root = repository.draft(Root, arguments)
    keys_of(arguments, root.signed, changed=True)
    repository.stage(root)
    # What the other keys signed must be signed anew; a list that waits stays what it is.
    if arguments.targets or arguments.targets_threshold is not None:
        targets = repository.draft(Targets, argparse.Namespace(days=None))
        repository.stage(targets)
        print(f"staged: targets.json, version {targets.signed.version}, for `sign targets` by the new keys.")
    print("staged: root.json, for `sign root` by enough of the old and enough of the new keys; then `publish`.")


def renew(arguments):
    """The same again, for longer."""
    repository = Repository(arguments.repository)
    for role in arguments.role:
        days = arguments.days if arguments.days is not None else DAYS[role]
        metadata = repository.draft({"root": Root, "targets": Targets}[role], argparse.Namespace(days=days))
        repository.stage(metadata)
        until = f"{metadata.signed.expires:%Y-%m-%d}"
        print(f"staged: {role}.json, version {metadata.signed.version}, until {until}, for `sign {role}`; then `publish`.")


def kind_of(path):
    return next((kind for end, kind in KINDS.items() if path.name.endswith(end)), "other")


def add(arguments):
    repository = Repository(arguments.repository)
    targets = repository.draft(Targets, arguments)
    if bool(arguments.notes_fr) != bool(arguments.notes_en):
        stop("notes are given in both languages: --notes-fr and --notes-en")
    for name in arguments.file:
        path = pathlib.Path(name)
        custom = {
            "version": arguments.version,
            "channel": arguments.channel,
            "kind": arguments.kind or kind_of(path),
            "architecture": arguments.architecture,
            "staged": arguments.staged,
        }
        if arguments.notes_fr:
            custom["notes"] = {"fr": arguments.notes_fr, "en": arguments.notes_en}
        entry = TargetFile.from_file(path.name, str(path), ["sha256"])
        entry.unrecognized_fields["custom"] = custom
        known = targets.signed.targets.get(path.name)
        if known is not None and known.hashes != entry.hashes:
            stop(f"{path.name} is listed with other bytes; a released file never changes: give it a new version")
        targets.signed.targets[path.name] = entry
        repository.targets.mkdir(parents=True, exist_ok=True)
        place = repository.targets / f"{entry.hashes['sha256']}.{path.name}"
        if not place.exists():
            write(place, path.read_bytes())
        print(f"{path.name}: {custom['kind']}, {entry.length} bytes, sha256 {entry.hashes['sha256']}")
    repository.stage(targets)
    print(f"staged: targets.json, version {targets.signed.version}, for `sign targets`; then `publish`.")


def change(arguments):
    """Another share of the machines, or out of the list, for files that are there."""
    repository = Repository(arguments.repository)
    targets = repository.draft(Targets, arguments)
    for name in arguments.file:
        if name not in targets.signed.targets:
            stop(f"{name} is not listed")
        if arguments.staged is None:
            del targets.signed.targets[name]
        else:
            targets.signed.targets[name].unrecognized_fields["custom"]["staged"] = arguments.staged
    repository.stage(targets)
    print(f"staged: targets.json, version {targets.signed.version}, for `sign targets`; then `publish`.")


def show(metadata):
    """What somebody signs, for him to read before."""
    signed = metadata.signed
    print(f"{signed.type}, version {signed.version}, until {signed.expires:%Y-%m-%d}")
    if isinstance(signed, Root):
        for role in sorted(TOP_LEVEL_ROLE_NAMES):
            keys = signed.roles[role]
            print(f"  {role}: {keys.threshold} of {', '.join(keyid[:16] for keyid in keys.keyids)}")
    if isinstance(signed, Targets):
        for name, entry in sorted(signed.targets.items()):
            custom = entry.custom or {}
            words = ", ".join(str(custom.get(key)) for key in ("version", "channel", "kind", "architecture"))
            print(f"  {name}: {words}, {custom.get('staged')} %, {entry.length} bytes, {entry.hashes['sha256']}")


def sign(arguments):
    repository = Repository(arguments.repository)
    kind = {"root": Root, "targets": Targets}[arguments.role]
    metadata = repository.read(repository.staged / f"{arguments.role}.json", kind)
    show(metadata)
    if kind is Targets:
        # One signs what one has seen: the files themselves, not what somebody says of them.
        for name, entry in metadata.signed.targets.items():
            place = repository.targets / f"{entry.hashes['sha256']}.{name}"
            if not place.exists() or digest(place) != entry.hashes["sha256"]:
                stop(f"{place} is missing or differs: copy the whole repository")
    if not arguments.yes and input("Sign this? (yes) ") != "yes":
        stop("nothing was signed")
    metadata.sign(signer(arguments.key, arguments), append=True)
    repository.stage(metadata)
    missing = repository.signatures(metadata)
    print(f"signed; still missing: {'; '.join(missing)}" if missing else "signed by enough: ready to publish")


def merge(arguments):
    """Signatures that others gave on their copies."""
    repository = Repository(arguments.repository)
    for name in arguments.file:
        other = Metadata.from_file(name)
        path = repository.staged / f"{other.signed.type}.json"
        own = repository.read(path, type(other.signed))
        if own.signed_bytes != other.signed_bytes:
            stop(f"{name} is not the same {other.signed.type} metadata as {path}: one of the two was changed")
        own.signatures.update(other.signatures)
        repository.stage(own)
        missing = repository.signatures(own)
        print(f"{name}: {'still missing ' + '; '.join(missing) if missing else 'signed by enough'}")


def publish(arguments):
    repository = Repository(arguments.repository)
    keys = [signer(path, arguments) for path in arguments.key]
    root = repository.root() or stop("there is no root: init")
    waiting = []
    for kind in (Root, Targets):
        path = repository.staged / f"{kind.type}.json"
        if path.exists():
            metadata = repository.read(path, kind)
            missing = repository.signatures(metadata)
            if missing:
                stop(f"{path}: {'; '.join(missing)}")
            waiting.append((path, metadata))
    targets = next((metadata for _, metadata in waiting if isinstance(metadata.signed, Targets)), None)
    targets = targets or repository.current(Targets) or stop("there are no targets: init")
    missing = repository.signatures(targets)
    if missing:
        stop(f"targets: {'; '.join(missing)}: stage them again (`add` or `change`) and sign")
    for metadata in (root, targets):
        if metadata.signed.is_expired():
            role = metadata.signed.type
            when = f"{metadata.signed.expires:%Y-%m-%d}"
            stop(f"{role} has expired on {when}: no machine would take it; `renew {role}`, sign it, publish again")
    for name, entry in targets.signed.targets.items():
        place = repository.targets / f"{entry.hashes['sha256']}.{name}"
        if not place.exists() or digest(place) != entry.hashes["sha256"]:
            stop(f"{place} is missing or differs")
    before = [repository.current(kind) for kind in (Snapshot, Timestamp)]
    snapshot, timestamp = (old.signed if old else kind() for old, kind in zip(before, (Snapshot, Timestamp)))
    # Of what a cut publication left no version is given twice.
    newest = repository.newest(Snapshot)
    snapshot.version = (newest.signed.version if newest else 0) + 1
    snapshot.expires = expiry(arguments, "snapshot")
    snapshot.meta["targets.json"] = MetaFile(targets.signed.version)
    snapshot = Metadata(snapshot)
    timestamp.version = (before[1].signed.version if before[1] else 0) + 1
    timestamp.expires = expiry(arguments, "timestamp")
    for key in keys:
        snapshot.sign(key, append=True)
    data = snapshot.to_bytes(SERIALIZER)
    hashes = {"sha256": hashlib.sha256(data).hexdigest()}
    timestamp.snapshot_meta = MetaFile(snapshot.signed.version, len(data), hashes)
    # Machines whose clock is behind this find out that it is.
    timestamp.unrecognized_fields["published"] = f"{now():%Y-%m-%dT%H:%M:%SZ}"
    timestamp = Metadata(timestamp)
    for key in keys:
        timestamp.sign(key, append=True)
    for metadata in (snapshot, timestamp):
        missing = repository.signatures(metadata)
        if missing:
            stop(f"{metadata.signed.type}: {'; '.join(missing)}; give --key for each")
    repository.metadata.mkdir(parents=True, exist_ok=True)
    # The timestamp last: until it is there, nobody is led to anything new. A new root is followed at once, and is good with
    # what the old one was good with, unless its keys changed; then a cut here is healed by publishing again.
    order = [m for _, m in waiting if isinstance(m.signed, Targets)] + [snapshot]
    order += [m for _, m in waiting if isinstance(m.signed, Root)]
    for metadata in order:
        name = f"{metadata.signed.version}.{metadata.signed.type}.json"
        write(repository.metadata / name, metadata.to_bytes(SERIALIZER))
    write(repository.metadata / "timestamp.json", timestamp.to_bytes(SERIALIZER))
    for path, _ in waiting:
        path.unlink()
    until = first_to_expire([root, targets, snapshot, timestamp])
    print(f"published: root {root.signed.version}, targets {targets.signed.version}, until {until}")
    if any(isinstance(m.signed, Root) for _, m in waiting):
        print(f"new installations get metadata/{root.signed.version}.root.json as their trusted root.json:")
        print(f"sha256 {digest(repository.metadata / f'{root.signed.version}.root.json')}")


def first_to_expire(found):
    """When the first of the four does, and with it all; whose holders are to be gathered before is said."""
    for metadata in found[:2]:
        role, expires = metadata.signed.type, metadata.signed.expires
        if expires < now() + SOON:
            print(f"warning: {role} expires on {expires:%Y-%m-%d}: `renew {role}`, sign it, publish, before", file=sys.stderr)
    first = min((metadata.signed for metadata in found), key=lambda signed: signed.expires)
    return f"{first.expires:%Y-%m-%d} ({first.type})"


def verify(arguments):
    """As a machine does that knows the first root alone."""
    repository = Repository(arguments.repository)
    wrong, soonest = [], None
    first = pathlib.Path(arguments.root or repository.metadata / "1.root.json")
    root = repository.read(first, Root)
    if not arguments.root:
        print(f"believing {first} itself, sha256 {digest(first)}: compare it, or give your own by --root")
    while (path := repository.metadata / f"{root.signed.version + 1}.root.json").exists():
        following = repository.read(path, Root)
        for authority in (root, following):
            authority.signed.verify_delegate("root", following.signed_bytes, following.signatures)
        root = following
    found = [root] + [repository.current(kind) for kind in (Timestamp, Snapshot, Targets)]
    if None in found:
        stop("nothing is published")
    data = (repository.metadata / f"{found[2].signed.version}.snapshot.json").read_bytes()
    found[1].signed.snapshot_meta.verify_length_and_hashes(data)
    for metadata in found:
        role = metadata.signed.type
        root.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        print(f"{role}: version {metadata.signed.version}, until {metadata.signed.expires:%Y-%m-%d %H:%M}")
        if metadata.signed.is_expired():
            wrong.append(f"{role} has expired")
        elif soonest is None or metadata.signed.expires < soonest:
            soonest = metadata.signed.expires
    for name, entry in found[3].signed.targets.items():
        place = repository.targets / f"{entry.hashes['sha256']}.{name}"
        if not place.exists() or digest(place) != entry.hashes["sha256"]:
            wrong.append(f"{place} is missing or differs")
    show(found[3])
    if wrong:
        stop("; ".join(wrong))
    print(f"good until {soonest:%Y-%m-%d %H:%M} UTC")


def export(arguments):
    """What a machine needs and no more, for a disk that is carried."""
    repository, place = Repository(arguments.repository), pathlib.Path(arguments.to)
    found = [repository.current(kind) for kind in (Root, Targets, Snapshot, Timestamp)]
    if None in found:
        stop("nothing is published")
    _, targets, snapshot, _ = found
    for metadata in found:
        if metadata.signed.is_expired():
            when = f"{metadata.signed.expires:%Y-%m-%d}"
            stop(f"{metadata.signed.type} has expired on {when}: no machine would take the disk; publish first")
    names = [path.name for path in repository.metadata.glob("[0-9]*.root.json")]
    names += [f"{snapshot.signed.version}.snapshot.json", f"{targets.signed.version}.targets.json", "timestamp.json"]
    for folder in ("metadata", "targets"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    for name, entry in targets.signed.targets.items():
        name = f"{entry.hashes['sha256']}.{name}"
        if digest(repository.targets / name) != entry.hashes["sha256"]:
            stop(f"{repository.targets / name} differs")
        # A disk that was pulled out may hold a file by name alone.
        if not (place / "targets" / name).exists() or digest(place / "targets" / name) != entry.hashes["sha256"]:
            write(place / "targets" / name, (repository.targets / name).read_bytes())
    for name in names:
        write(place / "metadata" / name, (repository.metadata / name).read_bytes())
    print(f"{place}: good until {first_to_expire(found)}")


def main():
    parser = argparse.ArgumentParser(prog="scripts/release-repository", description=__doc__.splitlines()[0])
    parser.add_argument("--repository", default="repository", metavar="DIR", help="the repository (repository)")
    parser.add_argument("--passphrase-file", metavar="FILE", help="instead of asking for the keys' passphrase")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def positive(word):
        if int(word) < 1:
            raise argparse.ArgumentTypeError("1 at least")
        return int(word)

    def verb(name, run, words, days=False):
        one = verbs.add_parser(name, help=words, description=words)
        one.set_defaults(run=run)
        if days:
            one.add_argument("--days", type=positive, help="until it expires")
        return one

    def holders(one):
        for role in sorted(TOP_LEVEL_ROLE_NAMES):
            one.add_argument(f"--{role}", nargs="+", metavar="FILE.pub", help=f"who signs {role}")
            one.add_argument(f"--{role}-threshold", type=int, metavar="N", help="so many of them together")

    def percent(word):
        number = int(word)
        if not 0 <= number <= 100:
            raise argparse.ArgumentTypeError("0 to 100")
        return number

    verb("key", make_key, "draw a key: FILE, encrypted, and FILE.pub").add_argument("file")
    holders(verb("init", init, "begin a repository with everybody's public keys", days=True))
    one = verb("add", add, "list files of a release", days=True)
    one.add_argument("file", nargs="+")
    one.add_argument("--version", required=True)
    one.add_argument("--channel", choices=["stable", "candidate"], default="stable")
    one.add_argument("--kind", choices=[*KINDS.values(), "other"], help="by the name's end when not given; machines skip what is other")
    one.add_argument("--architecture", default="x86_64")
    one.add_argument("--staged", type=percent, default=100, help="percent of the machines that may take it")
    one.add_argument("--notes-fr")
    one.add_argument("--notes-en")
    one = verb("change", change, "give listed files to more machines (--staged), or to none any more", days=True)
    one.add_argument("file", nargs="+")
    one.add_argument("--staged", type=percent)
    one = verb("renew", renew, "stage root or targets as they are, for longer", days=True)
    one.add_argument("role", nargs="+", choices=["root", "targets"])
    one = verb("sign", sign, "sign what is staged, with one key")
    one.add_argument("role", choices=["root", "targets"])
    one.add_argument("--key", required=True, metavar="FILE")
    one.add_argument("--yes", "-y", action="store_true")
    verb("merge", merge, "take the signatures of others' copies").add_argument("file", nargs="+")
    one = verb("publish", publish, "publish what is staged and signed, or renew the dates", days=True)
    one.add_argument("--key", required=True, nargs="+", metavar="FILE", help="of snapshot and timestamp")
    holders(verb("rotate", rotate, "change who signs: roles that are not named stay as they are", days=True))
    one = verb("verify", verify, "check everything, as a machine would")
    one.add_argument("--root", metavar="FILE", help="the trusted root.json (the first of the repository itself)")
    verb("export", export, "copy what machines need, for a disk").add_argument("to")
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (RepositoryError, StorageError, OSError) as error:
        stop(error)


main()
