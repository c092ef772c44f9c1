"""oci.py STAGE OUT VERSION ARCHITECTURE COMMIT: the image for containers as an OCI layout in a tar (`podman load`, `skopeo copy
oci-archive:`), with the older list beside it that `docker load` without containerd's store reads (`docker-archive:`), written
directly; prints the file. Dated by SOURCE_DATE_EPOCH.

From scratch: one layer with the binary, its user and its licences, no shell, nothing else. It runs as a number that is
nobody's, writes in /data alone, and its tag is version and digest of the manifest: what it names never changes.
"""

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

stage, out, version, architecture, commit = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:6]
name = "debrouille-appliance"
epoch = int(os.environ["SOURCE_DATE_EPOCH"])
created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
user = 65532  # what images without a root use by custom; no distribution gives it away


def packed(entries):
    """A tar of (name, mode, owner, content; None for a folder), as given."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, mode, owner, content in entries:
            entry = tarfile.TarInfo(path)
            entry.mtime, entry.mode, entry.uid, entry.gid = epoch, mode, owner, owner
            if content is None:
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


blobs = {}


def blob(content, kind):
    digest = hashlib.sha256(content).hexdigest()
    blobs[digest] = content
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}


def encoded(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


layer = packed([
    ("data", 0o700, user, None),
    ("etc", 0o755, 0, None),
    ("etc/group", 0o644, 0, f"{name}:x:{user}:\n".encode()),
    ("etc/passwd", 0o644, 0, f"{name}:x:{user}:{user}::/data:/sbin/nologin\n".encode()),
    ("licenses", 0o755, 0, None),
    ("licenses/LICENSE", 0o644, 0, (stage / "LICENSE").read_bytes()),
    ("licenses/THIRD-PARTY-LICENSES", 0o644, 0, (stage / "THIRD-PARTY-LICENSES").read_bytes()),
    ("tmp", 0o1777, 0, None),
    ("usr", 0o755, 0, None),
    ("usr/bin", 0o755, 0, None),
    (f"usr/bin/{name}", 0o755, 0, (stage / name).read_bytes()),
])
labels = {
    "org.opencontainers.image.title": name,
    "org.opencontainers.image.description": "HTTPS document API with encrypted storage, TLS and backups in one binary",
    "org.opencontainers.image.version": version,
    "org.opencontainers.image.revision": commit,
    "org.opencontainers.image.created": created,
    "org.opencontainers.image.licenses": "MPL-2.0",
    "org.opencontainers.image.vendor": "Debrouille Appliance maintainers",
}
config = {
    "architecture": architecture,
    "os": "linux",
    "created": created,
    "config": {
        "User": f"{user}:{user}",
        "Entrypoint": [f"/usr/bin/{name}"],
        "Cmd": ["serve"],
        "WorkingDir": "/data",
        "Volumes": {"/data": {}},
        "ExposedPorts": {"8443/tcp": {}, "8080/tcp": {}},
        "StopSignal": "SIGTERM",
        "Env": [
            "PATH=/usr/bin",
            "DEBROUILLE_CONFIG=/data/appliance.toml",
            "DEBROUILLE_DATA_DIR=/data",
            "DEBROUILLE_SERVER_HTTPS=0.0.0.0:8443",
            "DEBROUILLE_SERVER_HTTP=0.0.0.0:8080",
        ],
        "Labels": labels,
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    "history": [{"created": created, "created_by": "scripts/package oci"}],
}
parts = blob(encoded(config), "config.v1+json"), blob(gzip.compress(layer, 6, mtime=0), "layer.v1.tar+gzip")
manifest = blob(
    encoded({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": parts[0],
        "layers": [parts[1]],
        "annotations": labels,
    }),
    "manifest.v1+json",
)
tag = f"{version}-{manifest['digest'].removeprefix('sha256:')[:12]}"
manifest["annotations"] = {"org.opencontainers.image.ref.name": f"{name}:{tag}"}
manifest["platform"] = {"architecture": architecture, "os": "linux"}
index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]}

config_file, layer_file = (f"blobs/sha256/{part['digest'].removeprefix('sha256:')}" for part in parts)
older = [{"Config": config_file, "RepoTags": [f"{name}:{tag}"], "Layers": [layer_file]}]

file = out / f"{name}-{version}-{architecture}.oci.tar"
file.write_bytes(packed([
    ("blobs", 0o755, 0, None),
    ("blobs/sha256", 0o755, 0, None),
    *((f"blobs/sha256/{digest}", 0o644, 0, blobs[digest]) for digest in sorted(blobs)),
    ("index.json", 0o644, 0, encoded(index)),
    ("manifest.json", 0o644, 0, encoded(older)),
    ("oci-layout", 0o644, 0, encoded({"imageLayoutVersion": "1.0.0"})),
]))
print(f"image {name}:{tag}, {manifest['digest']}", file=sys.stderr)
print(file)
