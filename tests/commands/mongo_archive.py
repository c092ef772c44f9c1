"""mongodump and mongorestore as the tests need them: archives written from and read into a real mongod by pymongo,
after https://github.com/mongodb/mongo-tools/blob/master/common/archive/spec.md. Shares no code with the appliance.

    mongo_archive.py URL fill-and-dump DATABASE ARCHIVE      makes collections and dumps them, blocks interleaved
    mongo_archive.py URL restore-and-compare DATABASE ARCHIVE restores an archive and compares it with them
    mongo_archive.py URL dump-folder DATABASE FOLDER         orders.bson.gz and orders.metadata.json.gz
"""

import gzip
import struct
import sys

import bson
import pymongo
from bson import json_util

MAGIC, TERMINATOR = struct.pack("<I", 0x8199E26D), b"\xff\xff\xff\xff"
CANONICAL = json_util.CANONICAL_JSON_OPTIONS
OURS = {"_rev", "_createdAt", "_updatedAt", "_owner", "_organization"}


def table():
    """CRC-64 of ECMA-182, reflected, as Go has it."""
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0xC96C5795D7870F42 if byte & 1 else 0)
        yield byte


TABLE = list(table())


def crc(data, crc=0):
    crc ^= 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFFFFFFFFFF


def fill(database):
    database.client.drop_database(database.name)
    orders = database.orders
    orders.insert_many(
        [
            {
                "number": bson.Int64(n),
                "customer": f"c{n % 7} é",
                "total": bson.Decimal128(f"{n}.10"),
                "rate": float(n),
                "lines": [{"sku": "a", "count": n}, None, []],
                "at": bson.datetime_ms.DatetimeMS(-5 + n),
                "raw": bson.Binary(b"\0\1", 4 if n % 2 else 0),
                "stamp": bson.Timestamp(n, 1),
                "regex": bson.Regex("^a", "i"),
            }
            for n in range(2500)
        ]
    )
    orders.create_index([("customer", 1), ("total", -1)])
    orders.create_index("number", unique=True)
    orders.create_index([("customer", "text")], name="words")
    orders.create_index("expires", expireAfterSeconds=10**9)  # no order has it: a mongod would delete what is past
    database.create_collection("userProfiles", validator={"$jsonSchema": {"bsonType": "object"}})
    database.userProfiles.insert_many([{"_id": f"u{n}", "a": {"b": {"c": n}}} for n in range(3)])
    database.create_collection("latest", viewOn="orders", pipeline=[])


def metadata(database, info):
    text = {"options": info.get("options", {}), "indexes": [], "uuid": "", "collectionName": info["name"], "type": info["type"]}
    if info["type"] == "collection":
        text["indexes"] = list(database[info["name"]].list_indexes())
    return json_util.dumps(text, json_options=CANONICAL)


def raw(database, name):
    options = bson.CodecOptions(document_class=bson.raw_bson.RawBSONDocument)
    return [document.raw for document in database.get_collection(name, options).find()]


def dump(database, path):
    infos = [info for info in database.list_collections() if info["name"] != "system.views"]
    header = lambda name, end, sum: bson.encode(
        {"db": database.name, "collection": name, "EOF": end, "CRC": bson.Int64(sum - (1 << 64) if sum >> 63 else sum)}
    )
    with gzip.open(path, "wb") as out:
        out.write(MAGIC)
        out.write(
            bson.encode(
                {"concurrent_collections": 4, "version": "0.1", "server_version": "6.0.5", "tool_version": "100.7.0"}
            )
        )
        for info in infos:
            kind = info["type"]
            out.write(
                bson.encode(
                    {"db": database.name, "collection": info["name"], "metadata": metadata(database, info), "size": 0, "type": kind}
                )
            )
        out.write(TERMINATOR)
        left = {info["name"]: raw(database, info["name"]) for info in infos if info["type"] == "collection"}
        sums = dict.fromkeys(left, 0)
        while left:  # a few of each in turn, as threads do
            for name in list(left):
                some, left[name] = left[name][:700], left[name][700:]
                out.write(header(name, False, 0) + b"".join(some) + TERMINATOR)
                sums[name] = crc(b"".join(some), sums[name])
                if not left[name]:
                    out.write(header(name, True, sums[name]) + TERMINATOR)
                    del left[name]


def restore(client, path, target):
    data = gzip.open(path, "rb").read()
    assert data[:4] == MAGIC
    at, blocks, block = 4, [], []
    while at < len(data):
        if data[at : at + 4] == TERMINATOR:
            blocks.append(block)
            at, block = at + 4, []
            continue
        (length,) = struct.unpack_from("<i", data, at)
        block.append(data[at : at + length])
        at += length
    assert not block, "the last block has no end"
    head, *collections = map(bson.decode, blocks[0])
    assert head["version"] == "0.1" and head["concurrent_collections"] == 1
    client.drop_database(target)
    found, sums, ended = {}, {}, set()
    for block in blocks[1:]:
        header = bson.decode(block[0])
        assert list(header) == ["db", "collection", "EOF", "CRC"] and isinstance(header["CRC"], bson.Int64)
        name = header["collection"]
        assert name not in ended
        if header["EOF"]:
            assert len(block) == 1 and header["CRC"] % (1 << 64) == sums[name], f"checksum of {name}"
            ended.add(name)
        else:
            sums[name] = crc(b"".join(block[1:]), sums.get(name, 0))
            found.setdefault(name, []).extend(block[1:])
    assert ended == {collection["collection"] for collection in collections}
    for collection in collections:
        name, said = collection["collection"], json_util.loads(collection["metadata"])
        assert collection["type"] == "collection" and said["options"] == {}
        client[target].create_collection(name)
        if found[name]:
            client[target][name].insert_many([bson.raw_bson.RawBSONDocument(document) for document in found[name]])
        for index in said["indexes"]:
            client[target].command("createIndexes", name, indexes=[index])
    return client[target]


def compare(database, restored):
    told = []
    for source, name in [("orders", "orders"), ("userProfiles", "profiles")]:
        plain = lambda document: {key: value for key, value in document.items() if key not in OURS}
        text = lambda document: json_util.dumps(plain(document), json_options=CANONICAL, sort_keys=True)
        wanted = sorted(text({**document, "_id": str(document["_id"])}) for document in database[source].find())
        got = list(restored[name].find())
        assert all(isinstance(document["_rev"], bson.Int64) for document in got), "our own fields are kept"
        assert wanted == sorted(map(text, got)), f"{name} differs"
        told.append(f"{name} {len(got)}")
    names = set(restored.orders.index_information())
    assert names == {"_id_", "customer_1_total_-1", "number_1"}, names
    return " ".join(told)


def main():
    url, what, name, path = sys.argv[1:]
    client = pymongo.MongoClient(url)
    database = client[name]
    if what == "fill-and-dump":
        fill(database)
        dump(database, path)
        print("dumped")
    elif what == "dump-folder":
        with gzip.open(f"{path}/orders.bson.gz", "wb") as out:
            out.write(b"".join(raw(database, "orders")))
        info = next(database.list_collections(filter={"name": "orders"}))
        with gzip.open(f"{path}/orders.metadata.json.gz", "wt") as out:
            out.write(metadata(database, info))
        client.drop_database(name)
        client.drop_database(f"{name}_back")
        print("dumped")
    else:
        print(compare(database, restore(client, path, f"{name}_back")))


if __name__ == "__main__":
    main()
