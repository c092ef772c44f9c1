#!/usr/bin/env python3
"""Reads Débrouille Appliance backups (format 1) without the appliance, after docs/backup-format.md.

    read_backup.py list FILE...                             what the header says
    read_backup.py verify FILE... [--signer SIGNER]         every byte against the signed manifest
    read_backup.py decrypt FILE IDENTITY [--signer SIGNER]  its lines as NDJSON on standard output

SIGNER is debrouille-signer-1-… of the instance; without it (and with none in the identity file) the
signature is checked against the key the file itself names, which shows damage but not forgery.
Needs `pip install cryptography zstandard`. Exit codes: 0 sound, 2 wrong usage, 5 not sound (then
what decrypt wrote so far is worth nothing).
"""
import argparse, datetime, hashlib, hmac, json, struct, sys, uuid
import zstandard
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NAME = b"debrouille-appliance backup v1 "
FULL, LAST = 64 * 1024 + 16, 1 << 31  # a whole segment with its tag; the mark of the last


class Damaged(Exception):
    pass


def need(true, what):
    if not true:
        raise Damaged(what)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def extract(salt, key):  # HKDF-SHA256, RFC 5869
    return hmac.digest(salt or bytes(32), key, "sha256")


def expand(prk, info, length):  # up to two blocks, all that is asked here
    one = hmac.digest(prk, info + b"\1", "sha256")
    return (one + hmac.digest(prk, one + info + b"\2", "sha256"))[:length]


def hpke_open(private, enc, info, aad, sealed):
    """RFC 9180, base mode: DHKEM(X25519, HKDF-SHA256) 0x0020, HKDF-SHA256 0x0001, AES-256-GCM 0x0002."""
    kem, suite = b"KEM\0\x20", b"HPKE\0\x20\0\x01\0\x02"

    def labeled_extract(suite, salt, label, key):
        return extract(salt, b"HPKE-v1" + suite + label + key)

    def labeled_expand(suite, prk, label, info, length):
        return expand(prk, struct.pack(">H", length) + b"HPKE-v1" + suite + label + info, length)

    dh = private.exchange(X25519PublicKey.from_public_bytes(enc))
    context = enc + private.public_key().public_bytes_raw()
    shared = labeled_expand(kem, labeled_extract(kem, b"", b"eae_prk", dh), b"shared_secret", context, 32)
    context = b"\0" + labeled_extract(suite, b"", b"psk_id_hash", b"") + labeled_extract(suite, b"", b"info_hash", info)
    secret = labeled_extract(suite, shared, b"secret", b"")
    nonce = labeled_expand(suite, secret, b"base_nonce", context, 12)
    return AESGCM(labeled_expand(suite, secret, b"key", context, 32)).decrypt(nonce, sealed, aad)


def key_of(kind, text):
    prefix = f"debrouille-{kind}-1-"
    raw = bytes.fromhex(text.removeprefix(prefix)) if text.startswith(prefix) else b""
    need(len(raw) == 36 and sha256(prefix.encode(), raw[:32])[:4] == raw[32:], f"not a {prefix}… text, or mistyped")
    return raw[:32]


class Backup:
    def __init__(self, file):
        self.file = file
        start = self.take(40, "header")
        magic, version, suite, length, needs = struct.unpack(">16sHHI16s", start)
        need(magic == b"DEBROUILLEBACKUP", "not a backup")
        need((version, suite) == (1, 1), f"format {version}.{suite}, read by release {needs.decode().rstrip(chr(0))}")
        need(40 < length <= 1024, "header")
        rest = self.take(length - 40, "header")
        fields = struct.unpack(">16sqB3xIQQ32s32s32s", rest[:144])
        backup, created, kind, lineage, after, upto, previous, self.salt, self.commitment = fields
        self.hash, cut = sha256(start, rest), 145 + rest[144]
        self.about = {
            "backup": str(uuid.UUID(bytes=backup)), "kind": {1: "full", 2: "segment"}[kind],
            "created": str(datetime.datetime.fromtimestamp(created / 1000, datetime.timezone.utc)),
            "instance": rest[cut + 1 :].decode(), "lineage": lineage, "environment": rest[145:cut].decode(),
            "after": after, "upto": upto, "previous": previous.hex(),
        }
        prefix = self.take(4, "slots")
        need(34 <= int.from_bytes(prefix, "big") <= 64 * 1024, "slots")
        section = self.take(int.from_bytes(prefix, "big"), "slots")
        need(sha256(self.hash, prefix, section[:-32]) == section[-32:], "slots")
        self.slots, at = {}, 2
        for _ in range(int.from_bytes(section[:2], "big")):
            kind, size = struct.unpack(">HH", section[at : at + 4])
            if kind == 1:
                owner, enc, sealed = struct.unpack("16s32s48s", section[at + 4 : at + 4 + size])
                self.slots[owner] = enc, sealed
            at += 4 + size

    def take(self, length, part):
        data = self.file.read(length)
        need(len(data) == length, f"cut short ({part})")
        return data

    def segments(self):
        """Each sealed segment, and 1 for the last; counts and hashes them on the way."""
        self.body, self.bytes, last = hashlib.sha256(), 0, 0
        while not last:
            frame = self.take(4, "body")
            last, length = divmod(int.from_bytes(frame, "big"), LAST)
            need(length == FULL or (last and 16 <= length < FULL), "body")
            segment = self.take(length, "body")
            self.body.update(frame + segment)
            self.bytes += 4 + length
            yield segment, last

    def lines(self, private):
        """Decrypted, decompressed lines, by one recipient's private key."""
        private = X25519PrivateKey.from_private_bytes(private)
        own = sha256(b"debrouille-recipient-1-", private.public_key().public_bytes_raw())[:16]
        need(own in self.slots, "this identity is not one of its recipients")
        enc, sealed = self.slots[own]
        prk = extract(self.salt, hpke_open(private, enc, NAME + b"slot" + self.hash, own, sealed))
        need(expand(prk, NAME + b"commitment", 32) == self.commitment, "commitment")
        keys, rest = expand(prk, NAME + b"body" + self.hash, 39), b""
        aead, text = AESGCM(keys[:32]), zstandard.ZstdDecompressor().decompressobj()
        for count, (segment, last) in enumerate(self.segments()):
            plain = aead.decrypt(keys[32:] + struct.pack(">IB", count, last), segment, None)
            *whole, rest = (rest + text.decompress(plain)).split(b"\n")
            yield from whole
        need(text.eof and not text.unused_data and not rest, "text")

    def manifest(self, signers):
        """After the last segment: the manifest, which must be signed and agree with what was read."""
        tail = self.file.read(16 * 1024 + 1)
        need(len(tail) > 68 and int.from_bytes(tail[-4:], "big") == len(tail) - 68, "manifest")
        text, signature = tail[:-68], tail[-68:-4]
        manifest = json.loads(text)
        signer = bytes.fromhex(manifest["signer"])
        believed, key = not signers or signer in signers, signer
        for voucher in manifest.get("vouchedBy", []):
            before = bytes.fromhex(voucher["signer"])
            told = bytes.fromhex(voucher["signature"])
            Ed25519PublicKey.from_public_bytes(before).verify(told, NAME + b"signer\n" + key)
            believed, key = believed or before in signers, before
        need(believed, f"signed by {manifest['signer']}, not by a signer given")
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, NAME + b"manifest\n" + text)
        found = {"backup": self.about["backup"], "headerSha256": self.hash.hex(), "format": 1,
                 "bodySha256": self.body.hexdigest(), "bodyBytes": self.bytes}
        need(all(manifest[name] == value for name, value in found.items()), "the manifest speaks of another file")
        return manifest


def decrypt(backup, private, signers, out):
    counts = {"lines": 0, "documents": 0, "records": 0, "textBytes": 0}
    for line in backup.lines(private):
        kind = json.loads(line)["type"]
        counts["lines"] += 1
        counts["textBytes"] += len(line) + 1
        counts["documents"] += kind == "document"
        counts["records"] += kind == "journal"
        out.write(line + b"\n")
    manifest = backup.manifest(signers)
    need(all(manifest[name] == count for name, count in counts.items()), "the manifest counts otherwise")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["list", "verify", "decrypt"])
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--signer", action="append", default=[])
    options = parser.parse_args()
    try:
        signers = [key_of("signer", text) for text in options.signer]
        if options.command == "decrypt":
            if len(options.files) != 2:
                parser.error("decrypt takes a backup and an identity file")
            lines = [line.strip() for line in open(options.files.pop(), encoding="utf-8")]
            signers += [key_of("signer", line) for line in lines if line.startswith("debrouille-signer")]
            private = [key_of("identity", line) for line in lines if line.startswith("debrouille-identity")]
            need(len(private) == 1, "the identity file must hold one private key")
        for path in options.files:
            backup = Backup(open(path, "rb"))
            if options.command == "decrypt":
                decrypt(backup, private[0], signers, sys.stdout.buffer)
                sys.stdout.buffer.flush()
                continue
            if options.command == "verify":
                for _ in backup.segments():
                    pass
                backup.about |= backup.manifest(signers)
            print(json.dumps(backup.about))
    except (Damaged, InvalidSignature, InvalidTag, zstandard.ZstdError, ValueError, KeyError, struct.error) as error:
        print(f"not sound: {error or type(error).__name__}", file=sys.stderr)
        sys.exit(5)


if __name__ == "__main__":
    main()
