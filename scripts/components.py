"""components.py sbom|licences TRIPLE: what the shipped binary is made of, on standard output; dated by SOURCE_DATE_EPOCH.

sbom      CycloneDX 1.6: each crate that is linked, with its digest and what it needs, the C inside crates, the standard
          library, the C library. What only builds or tests (build scripts, procedural macros, dev-dependencies) is no part.
licences  The texts they come with, each once, under the names of all that come with it.

Of this checkout, by `cargo tree` (features as they are built, not as tests unite them), Cargo.lock and the crates' sources.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
import uuid
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = re.compile(r"^(un)?(licen[cs]e|copying|copyright|notice|authors)", re.IGNORECASE)
# Files of a crate that hold code, by their ending.
CODE = {".rs", ".go", ".py", ".c", ".h", ".html", ".toml"}
# What crates bring along: the crate, the folder, the part's name, its licence (None: the crate's own), where its version is.
VENDORED = [
    ("aws-lc-sys", "aws-lc", "aws-lc", None, "include/openssl/base.h", r'AWSLC_VERSION_NUMBER_STRING "([^"]+)"'),
    ("zstd-sys", "zstd", "zstd", "BSD-3-Clause", "lib/zstd.h",
     r"VERSION_MAJOR +(\d+)[^$]*?VERSION_MINOR +(\d+)[^$]*?VERSION_RELEASE +(\d+)"),
    ("libmimalloc-sys", "c_src/mimalloc/v3", "mimalloc", "MIT", "include/mimalloc.h", r"MI_MALLOC_VERSION (\d)(\d\d)(\d\d)"),
    ("debrouille-appliance", "src/http/pages/reference", "swagger-ui", "Apache-2.0", "VERSION", r"(\S+)"),
]
# Of two licences to choose from, the one that is not chosen.
NOT_CHOSEN = {("zstd", "COPYING")}


def cargo(*arguments):
    done = subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def linked(triple):
    """{(name, version): set of what it needs}, and the first of them, which is ours."""
    tree = cargo("tree", "--locked", "--edges", "normal,no-proc-macro", "--target", triple, "--prefix", "depth",
                 "--format", " {p}")
    needs, path = {}, []
    for line in tree.splitlines():
        depth, name, version = re.match(r"(\d+) (\S+) v(\S+)", line).groups()
        crate = (name, version)
        needs.setdefault(crate, set())
        del path[int(depth):]
        if path:
            needs[path[-1]].add(crate)
        path.append(crate)
    return needs, path[0]


class Crates:
    def __init__(self):
        metadata = json.loads(cargo("metadata", "--locked", "--format-version", "1"))
        self.packages = {(p["name"], p["version"]): p for p in metadata["packages"]}
        lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
        self.digests = {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}

    def folder(self, crate):
        return Path(self.packages[crate]["manifest_path"]).parent

    def licence(self, crate):
        # Old crates write MIT/Apache-2.0 for "or".
        return (self.packages[crate]["license"] or "").replace("/", " OR ")

    def vendored(self, needs):
        """(crate, folder, name, version, licence) of what is inside the linked crates."""
        for holder, folder, name, licence, file, pattern in VENDORED:
            for crate in needs:
                if crate[0] == holder:
                    place = self.folder(crate) / folder
                    found = re.search(pattern, (place / file).read_text())
                    version = ".".join(number.lstrip("0") or "0" for number in found.groups())
                    yield crate, place, name, version, licence or self.licence(crate)


def system(triple):
    """(name, version, licence, texts) of what the compilers add."""
    release = re.search(r"release: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True)).group(1)
    sysroot = Path(subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip())
    rust = sysroot / "share/doc/rust/licenses"
    yield "rust-std", release, "MIT OR Apache-2.0", [rust / "MIT.txt", rust / "Apache-2.0.txt"]
    common = Path("/usr/share/common-licenses")
    for name, package, licence, text in [
        ("glibc", "libc6-dev", "LGPL-2.1-or-later", common / "LGPL-2.1"),
        ("libgcc", f"libgcc-{debian_gcc()}-dev", "GPL-3.0-or-later WITH GCC-exception-3.1", common / "GPL-3"),
    ]:
        version = subprocess.check_output(["dpkg-query", "--show", "--showformat=${Version}", package], text=True)
        yield name, version, licence, [text, Path(f"/usr/share/doc/{package}/copyright")]


def debian_gcc():
    return subprocess.check_output(["cc", "-dumpversion"], text=True).strip().split(".")[0]


def sbom(triple):
    needs, ours = linked(triple)
    crates = Crates()

    def ref(crate):
        return "pkg:cargo/{}@{}".format(*crate).replace("+", "%2B")

    def component(name, version, licence, purl, kind="library"):
        # An expression, even of one name, as Cargo has it.
        return {"type": kind, "bom-ref": purl, "name": name, "version": version,
                "licenses": [{"expression": licence}], "purl": purl}

    components, dependencies = [], {}
    for crate in needs:
        part = component(*crate, crates.licence(crate), ref(crate), "application" if crate == ours else "library")
        package = crates.packages[crate]
        if package["description"]:
            part["description"] = " ".join(package["description"].split())
        if crates.digests[crate]:
            part["hashes"] = [{"alg": "SHA-256", "content": crates.digests[crate]}]
        if package["repository"]:
            part["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        dependencies[ref(crate)] = {ref(need) for need in needs[crate]}
        if crate == ours:
            itself = part
        else:
            components.append(part)
    for crate, _, name, version, licence in crates.vendored(needs):
        purl = f"pkg:generic/{name}@{version}"
        components.append(component(name, version, licence, purl))
        dependencies[ref(crate)].add(purl)
        dependencies[purl] = set()
    for name, version, licence, _ in system(triple):
        purl = f"pkg:generic/{name}@{version}".replace("+", "%2B")
        components.append(component(name, version, licence, purl))
        dependencies[itself["bom-ref"]].add(purl)
        dependencies[purl] = set()
    components.sort(key=lambda part: part["bom-ref"])
    body = {
        "metadata": {
            "timestamp": datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": itself,
            "properties": [{"name": "target", "value": triple}],
        },
        "components": components,
        "dependencies": [{"ref": each, "dependsOn": sorted(dependencies[each])} for each in sorted(dependencies)],
    }
    # Unique to its content, so the same twice.
    serial = uuid.UUID(bytes=hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()[:16], version=4)
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1}
    return json.dumps(head | body, indent=1, ensure_ascii=False) + "\n"


def texts(folder):
    """Files that are named like a licence, or lie in a folder that is."""
    named = [each for each in folder.iterdir() if TEXT.match(each.name)]
    files = [file for each in named for file in (each.iterdir() if each.is_dir() else [each])]
    return sorted(file for file in files if file.is_file() and file.suffix not in CODE)


def licences(triple):
    needs, ours = linked(triple)
    crates = Crates()
    holders, bare = {}, []

    def add(title, files):
        for file in files:
            text = "\n".join(line.rstrip() for line in file.read_text(errors="replace").strip().splitlines())
            if text:
                holders.setdefault(text, []).append(title)

    rows = []
    for crate in sorted(needs):
        if crate == ours:
            continue
        title = "{} {}".format(*crate)
        rows.append((title, crates.licence(crate)))
        found = texts(crates.folder(crate))
        if not found:
            bare.append(crate)
        add(title, found)
    for crate, folder, name, version, licence in crates.vendored(needs):
        rows.append((f"{name} {version} (in {crate[0]})", licence))
        add(f"{name} {version}", [file for file in texts(folder) if (name, file.name) not in NOT_CHOSEN])
    for name, version, licence, files in system(triple):
        rows.append((f"{name} {version}", licence))
        add(f"{name} {version}", files)

    out = ["What the binary is made of besides its own code, which is under MPL-2.0: each part with its licence, then every text.", ""]
    width = max(len(title) for title, _ in rows)
    out += [f"{title:<{width}}  {licence}" for title, licence in rows]
    if bare:
        out += ["", "Without a text of their own; the texts of the licences named are those of others below. By:"]
        for crate in bare:
            by = ", ".join(crates.packages[crate]["authors"]) or crates.packages[crate]["repository"] or "unnamed authors"
            out.append(f"  {crate[0]} {crate[1]}: {by}")
    for text, titles in sorted(holders.items(), key=lambda pair: sorted(set(pair[1]))):
        out += ["", "=" * 100, ", ".join(sorted(set(titles))), "=" * 100, "", text]
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    sys.stdout.write({"sbom": sbom, "licences": licences}[sys.argv[1]](sys.argv[2]))
