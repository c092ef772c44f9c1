# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read by those who source it
# A Debian 13 that is booted for a check, and thrown away. It is made once in the cache; each run boots a layer over it, with
# no network but its own loopback. Sourced after base.sh, never run.

need systemd-nspawn systemd-container "packages are tried in a booted system"
need mmdebstrap mmdebstrap "a Debian 13 to boot"
need pgrep procps "the booted system is found among the processes"
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] ||
  install_packages "the keys Debian signs its packages with" debian-archive-keyring

work=$(mktemp -d "$CACHE/booted.XXXXXX")
merged=$work/root
machine=
leader=
nspawn=() # options of systemd-nspawn, to be set before boot
trap power_off EXIT

# What is in it beyond what is essential; another list makes another one.
BOOTED=systemd,systemd-sysv,dbus,debconf,passwd,rpm,dnf,apt

booted_root() { # where it lies
  local root=$CACHE/debian-13-booted
  if [ "$(cat "$root/made" 2>/dev/null)" != "$BOOTED" ]; then
    say "making a bootable Debian 13 in $root"
    as_root rm -rf "$root"
    as_root mmdebstrap --quiet --variant=essential --include="$BOOTED" trixie "$root" >&2 ||
      die "the Debian 13 could not be made: nothing was tried"
    as_root truncate -s 0 "$root/etc/machine-id"
    echo "$BOOTED" | as_root tee "$root/made" >/dev/null
  fi
  printf '%s\n' "$root"
}

boot() {
  local root
  root=$(booted_root)
  mkdir "$work/upper" "$work/work" "$merged"
  as_root mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/work" "$merged"
  power_on
}

power_on() { # what lies on its disk
  # The image is systemd's of today, which wants the unified hierarchy whatever this machine has.
  as_root env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 setsid systemd-nspawn --quiet --directory="$merged" --boot --register=no \
    --keep-unit --private-network --machine=appliance-packages --console=pipe "${nspawn[@]}" >"$work/console" 2>&1 </dev/null &
  machine=$!
  patiently 30 found || { cat "$work/console" >&2; die "systemd-nspawn did not boot"; }
  patiently 60 running || { cat "$work/console" >&2; die "the Debian 13 did not come up"; }
}

power_cut() { # all of it ends at once, and none sees another end; what was written stays, written through or not
  as_root kill -STOP "$leader"
  as_root nsenter --pid -t "$leader" kill -KILL -- -1
  as_root kill -KILL "$leader"
  wait "$machine" || true
  leader=
}

power_off() { # and forget it
  if [ -n "$leader" ]; then
    as_root kill -SIGRTMIN+4 "$leader" 2>/dev/null || true
    for _ in {1..300}; do
      kill -0 "$machine" 2>/dev/null || break
      sleep 0.1
    done
    as_root kill -9 "$leader" 2>/dev/null || true
  fi
  if mountpoint -q "$merged"; then as_root umount "$merged"; fi
  as_root rm -rf "$work"
}

leader_of() { # the first process of the system among the descendants of $1
  local child
  for child in $(pgrep -P "$1"); do
    if grep -qP '^NSpid:\t\d+\t1$' "/proc/$child/status" 2>/dev/null; then
      echo "$child"
      return
    fi
    leader_of "$child" && return
  done
  return 1
}

deepest() { # the last of the descendants of $1, which run each other
  local child
  child=$(pgrep -P "$1" | head -n 1)
  if [ -n "$child" ]; then deepest "$child"; else echo "$1"; fi
}

inside() { # a command in the booted system
  as_root timeout 120 nsenter --all -t "$leader" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive "$@" </dev/null
}

beside() { # a command of this machine on the booted system's network
  as_root nsenter --net -t "$leader" "$@" </dev/null
}

patiently() { # patiently SECONDS COMMAND...: until it succeeds
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.05
  done
}

found() { leader=$(leader_of "$machine"); }
running() { inside systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; }
there() { inside test -e "$1"; }
since() { printf '%d.%02d s' $((($(date +%s%N) - $1) / 1000000000)) $((($(date +%s%N) - $1) / 10000000 % 100)); }
