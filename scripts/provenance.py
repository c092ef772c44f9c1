"""provenance.py TRIPLE BINARY FILE...: how the files were made, as an in-toto statement with SLSA's provenance, on standard output.

Not signed: the release repository signs what it names. Nothing in it tells of the machine or the hour, so that whoever
builds the commit with the same compilers gets the same statement.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
triple, binary, files = sys.argv[1], Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
PLACE = "https://debrouille.example/appliance"


def said(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def digest(path):
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def debian(package):
    return said("dpkg-query", "--show", "--showformat=${Version}", package)


rustc = dict(line.split(": ", 1) for line in said("rustc", "-vV").splitlines() if ": " in line)
commit = said("git", "rev-parse", "HEAD")
gcc = said("cc", "-dumpversion").split(".")[0]
# What compiles, links, parts and compresses.
TOOLS = ("libc6-dev", f"gcc-{gcc}", f"libgcc-{gcc}-dev", "binutils", "tar", "gzip", "zlib1g")
# Only what `scripts/package binary` built of this commit is said to be built so; another binary was given.
note = binary.with_name(binary.name + ".built")
built = note.exists() and note.read_text().split() == [digest(binary)["sha256"], commit]
given = [] if built else [{"uri": f"file:{binary.name}", "digest": digest(binary)}]
profile = {"profile": "dist"} if built else {"binary": "given, not built by scripts/package"}
statement = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": file.name, "digest": digest(file)} for file in files],
    "predicateType": "https://slsa.dev/provenance/v1",
    "predicate": {
        "buildDefinition": {
            "buildType": f"{PLACE}/scripts-package/v1",
            "externalParameters": {"command": ["scripts/package", "all"], "target": triple} | profile,
            "internalParameters": {
                "SOURCE_DATE_EPOCH": said("git", "log", "-1", "--format=%ct"),
                "rustflags": "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs, and --remap-path-prefix for checkout, target, registry and toolchain",
                "cflags": "as in .cargo/config.toml, and -ffile-prefix-map for the same",
            },
            "resolvedDependencies": [
                # A changed checkout says so: its bytes are not the commit's.
                {"uri": f"git+{PLACE}", "digest": {"gitCommit": commit}, "annotations": {"modified": bool(said("git", "status", "--porcelain"))}},
                *given,
                {"uri": "Cargo.lock", "digest": digest(ROOT / "Cargo.lock")},
                {"uri": f"rust/{rustc['release']}", "digest": {"gitCommit": rustc["commit-hash"]}, "annotations": {"llvm": rustc["LLVM version"]}},
                *({"uri": f"pkg:deb/debian/{package}@{debian(package)}"} for package in TOOLS),
            ],
        },
        "runDetails": {"builder": {"id": f"{PLACE}/scripts-package"}},
    },
}
print(json.dumps(statement, indent=1, ensure_ascii=False))
