#!/usr/bin/env python3
"""Puts a private backup key together from its shares, without the appliance: Python alone, after
docs/backup-format.md ("Shares of a private key").

    combine_shares.py [--words LIST] SHEET... > key

A sheet is a file with a line debrouille-share-1-…, or with the 40 words; these want the BIP-39 list of their
language, one word a line (english.txt or french.txt of
https://github.com/bitcoin/bips/tree/master/bip-0039). Exits 1 when the shares do not do.
"""

import argparse
import hashlib
import sys
import unicodedata

SHARE, IDENTITY = "debrouille-share-1-", "debrouille-identity-1-"
LENGTH = 51


def checksum(prefix, data):
    return hashlib.sha256(prefix.encode() + data).digest()[:4]


def multiply(a, b):
    """In GF(256) with AES's polynomial."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = a << 1 ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def inverse(a):
    return next(b for b in range(1, 256) if multiply(a, b) == 1)


def plain(word):
    return "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c)).lower()


def read(path, words):
    """Every share of a sheet: version, set, recipient, threshold, number, part."""
    found, spelt = [], []
    for line in open(path, encoding="utf-8"):
        line = line.strip()
        if line.lower().startswith(SHARE):
            found.append(bytes.fromhex(line[len(SHARE):]))
        elif words and not line.startswith(("#", "debrouille")):
            spelt += [word for word in line.split() if word[0].isalpha()]
    for start in range(0, len(spelt), 40):
        bits = "".join(f"{words[plain(word)]:011b}" for word in spelt[start:start + 40])
        found.append(bytes(int(bits[at:at + 8], 2) for at in range(0, len(bits), 8)))
    for share in found:
        if len(share) != LENGTH + 4 or checksum(SHARE, share[:LENGTH]) != share[LENGTH:] or share[0] != 1:
            sys.exit(f"{path}: not a whole share of version 1")
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--words", metavar="LIST")
    parser.add_argument("sheets", nargs="+")
    arguments = parser.parse_args()
    words = None
    if arguments.words:
        words = {plain(word): place for place, word in enumerate(open(arguments.words, encoding="utf-8").read().split())}
    shares = [share for sheet in arguments.sheets for share in read(sheet, words)]
    if len({share[1:18] for share in shares}) > 1:
        sys.exit("shares of different sets")
    parts = {share[18]: share[19:LENGTH] for share in shares}
    if not shares or len(parts) < shares[0][17]:
        sys.exit(f"{len(parts)} shares are too few")
    key = bytearray(32)
    for number, part in parts.items():
        weight = 1
        for other in parts:
            if other != number:
                weight = multiply(weight, multiply(other, inverse(other ^ number)))
        for at, byte in enumerate(part):
            key[at] ^= multiply(weight, byte)
    print(IDENTITY + key.hex() + checksum(IDENTITY, key).hex())


if __name__ == "__main__":
    main()
