# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read by those who source it
# What the other scripts stand on: words, packages, the Python environment, places outside the checkout.
# Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/debrouille-appliance
# What the development instance and the test partners write; ignored by git.
VAR=${VAR:-$ROOT/var}
mkdir -p "$CACHE" "$VAR"

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() {
  printf '\033[1;31merror:\033[0m %s\n' "$*" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root and sudo is not here; run as root: $*"
  fi
}

# install_packages WHY PACKAGE...: with apt, after saying what and why.
install_packages() {
  local why=$1
  shift
  command -v apt-get >/dev/null || die "$why needs the packages: $* (no apt-get here; install their like by hand)"
  say "installing $* ($why)"
  local quiet=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120)
  if ! as_root "${quiet[@]}" install -y --no-install-recommends "$@" >"$CACHE/apt.log" 2>&1 </dev/null; then
    # A new machine has no package lists yet, an old one stale ones.
    as_root "${quiet[@]}" update >"$CACHE/apt.log" 2>&1 </dev/null || { cat "$CACHE/apt.log" >&2; die "apt-get update failed"; }
    as_root "${quiet[@]}" install -y --no-install-recommends "$@" >"$CACHE/apt.log" 2>&1 </dev/null ||
      { cat "$CACHE/apt.log" >&2; die "apt-get could not install: $*"; }
  fi
}

# need COMMAND PACKAGE WHY: install the package unless the command is there.
need() {
  command -v "$1" >/dev/null || install_packages "$3" "$2"
}

# Rust by rustup, and what the crates that build C need.
need_rust() {
  if ! command -v cargo >/dev/null && [ -r "${CARGO_HOME:-$HOME/.cargo}/env" ]; then
    # shellcheck source=/dev/null
    . "${CARGO_HOME:-$HOME/.cargo}/env"
  fi
  command -v cargo >/dev/null || die "Rust is missing: install it with rustup, then run this again"
  need cc gcc "the linker, and the C parts of the cryptography and of zstd"
  [ -e /usr/include/stdlib.h ] || install_packages "headers and the static C library" libc6-dev
}

# In CI cargo builds outside the checkout, so that a rerun on the same machine is quick.
if [ "${CI:-}" = true ] && [ -z "${CARGO_TARGET_DIR:-}" ]; then
  export CARGO_TARGET_DIR=$CACHE/target
fi
# What is built for; names of packages carry its first word.
TRIPLE=${TRIPLE:-x86_64-unknown-linux-gnu}
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}/$TRIPLE

# python_package MODULE REQUIREMENT: a module of the tests' own Python, in a venv outside the checkout.
VENV=$CACHE/python
python_package() {
  if [ ! -x "$VENV/bin/pip" ]; then
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
      install_packages "Python and its venv: test partners and the independent backup reader" python3 python3-venv
    fi
    rm -rf "$VENV"
    python3 -m venv "$VENV" || die "python3 -m venv $VENV failed"
  fi
  "$VENV/bin/python" -c "import $1" 2>/dev/null && return
  say "installing the Python package $2 into $VENV"
  "$VENV/bin/pip" install -q --disable-pip-version-check --no-input "$2" </dev/null || die "pip could not install $2"
}

# wheel REQUIREMENT FILE: unpacks one file of a Python wheel into the cache, prints where. For programs that are
# shipped as wheels: no Python runs them.
wheel() {
  local place=$CACHE/wheels/${1//[^a-zA-Z0-9.]/_} file
  file=$place/$(basename "$2")
  if [ ! -x "$file" ]; then
    python_package pip pip
    local temporary
    temporary=$(mktemp -d "$CACHE/wheel.XXXXXX")
    say "fetching $1 for its program $(basename "$2")"
    "$VENV/bin/pip" download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$temporary" "$1" </dev/null >&2 ||
      die "pip could not fetch $1"
    "$VENV/bin/python" -m zipfile -e "$temporary"/*.whl "$temporary/wheel"
    mkdir -p "$place"
    # The file's folder inside the wheel carries the version: found by its end.
    local found
    found=$(find "$temporary/wheel" -type f -path "*/$2" | head -n 1)
    [ -n "$found" ] || die "$1 has no file $2"
    install -m 755 "$found" "$file.new" && mv "$file.new" "$file"
    rm -rf "$temporary"
  fi
  printf '%s\n' "$file"
}

# debian PACKAGE…: unpacks Debian's packages into the cache, prints where; those this release does not have are left out, but
# for the first. For programs whose installation would start a service: nothing of them runs.
debian() {
  local place=$CACHE/debian/$1 package
  if [ ! -d "$place" ]; then
    command -v apt-get >/dev/null || die "$1 is fetched as a Debian package (no apt-get here)"
    local temporary
    temporary=$(mktemp -d "$CACHE/debian.XXXXXX")
    chmod 755 "$temporary"
    say "fetching $1 for its program"
    if ! (cd "$temporary" && apt-get -qq download "$1" >"$CACHE/apt.log" 2>&1 </dev/null); then
      as_root apt-get -qq update >"$CACHE/apt.log" 2>&1 </dev/null || { cat "$CACHE/apt.log" >&2; die "apt-get update failed"; }
    fi
    for package in "$@"; do
      (cd "$temporary" && apt-get -qq download "$package" >"$CACHE/apt.log" 2>&1 </dev/null) || [ "$package" != "$1" ] ||
        { cat "$CACHE/apt.log" >&2; die "apt-get could not fetch $1"; }
    done
    for package in "$temporary"/*.deb; do dpkg -x "$package" "$temporary/root"; done
    mkdir -p "$CACHE/debian"
    mv "$temporary/root" "$place"
    rm -rf "$temporary"
  fi
  printf '%s\n' "$place"
}

# libraries PROGRAM PACKAGE...: install the packages when the loader misses a library of the program.
libraries() {
  local program=$1
  shift
  ldd "$program" | grep -q 'not found' || return 0
  install_packages "shared libraries of $(basename "$program")" "$@"
  if ldd "$program" | grep 'not found' >&2; then die "$program still misses libraries"; fi
}

# cargo_tool CRATE@VERSION: builds a program of cargo's into the cache, prints where.
cargo_tool() {
  local place=$CACHE/cargo-tools/$1
  if [ ! -x "$place/bin/${1%@*}" ]; then
    need_rust
    say "building $1"
    # From elsewhere: the checkout's own settings name a target and a static C library.
    (cd "$CACHE" && cargo install --quiet --locked --root "$place" --target-dir "$place/target" "$1" </dev/null >&2) ||
      die "cargo could not install $1"
    rm -rf "$place/target"
  fi
  printf '%s\n' "$place/bin/${1%@*}"
}
