# shellcheck shell=bash
# shellcheck disable=SC2154 # what is read here is set by check-updates
# An installation by a .deb or an .rpm through its updates: apt and dnf put releases in place, and power is cut in their midst.
# dnf is that of a Debian that says by a small package what it has. Sourced by check-updates, never run.

need rpmbuild rpm "a package says to dnf what Debian has"
kind=
mark=$data-updates/under-way

# ---- what differs ----

deb_of() { scripts/package deb "$work/$1/$name" "$work/debs" "$1-1" --fast; }
rpm_of() { scripts/package rpm "$work/$1/$name" "$work/rpms" "$1-1" --payload-compress gzip; }

quietly() { "$@" >"$work/quiet" 2>&1 || { cat "$work/quiet" >&2; told "$* failed"; }; }
install_deb() {
  printf "$name $name/%s\n" "init boolean true" "environment select development" "hostnames string $host localhost" \
    "admin-email string admin@$host" | as_root tee "$merged/root/preseed" >/dev/null
  quietly inside debconf-set-selections /root/preseed
  quietly inside dpkg -i /root/package.deb
}
install_rpm() {
  printf '%s\n' 'Name: debian' 'Version: 13' 'Release: 1' 'Summary: what Debian has' 'License: none' 'BuildArch: noarch' \
    'Provides: systemd = 257' 'Provides: /bin/sh' '%description' 'small' '%files' >"$work/debian.spec"
  quietly rpmbuild -bb --define "_topdir $work/rpmbuild" "$work/debian.spec"
  as_root cp "$work/rpmbuild/RPMS/noarch/debian-13-1.noarch.rpm" "$merged/root/debian.rpm"
  quietly inside dnf install --assumeyes /root/debian.rpm /root/package.rpm
  # As behind a broken link on RHEL, whose dnf skips no repository of itself.
  as_root mkdir -p "$merged/etc/yum.repos.d"
  printf '%s\n' '[away]' 'name=away' 'baseurl=https://mirror.example.invalid/' 'gpgcheck=0' |
    as_root tee "$merged/etc/yum.repos.d/away.repo" >/dev/null
  as_root sed -i 's/^skip_if_unavailable=.*/skip_if_unavailable=False/' "$merged/etc/dnf/dnf.conf"
  if inside dnf reinstall --assumeyes /root/package.rpm >"$work/quiet" 2>&1; then die "dnf does without a repository that is away"; fi
  echo 'A-first-password-of-the-check' | as_root tee "$merged/root/first-password" >/dev/null
  quietly inside "$name" init --environment development --hostname "$host" --hostname localhost --admin-email "admin@$host" \
    --admin-password-file /root/first-password
  quietly inside systemctl start "$name-https.socket" "$name-http.socket" "$name.service"
}
forget_deb() {
  echo "$name $name/purge-data boolean true" | as_root tee "$merged/root/preseed" >/dev/null
  quietly inside debconf-set-selections /root/preseed
  quietly inside dpkg --purge "$name"
  ! there "$data" || die "the purge left $data"
}

# The version of the package; with its system switched off, too.
version_deb() { as_root dpkg-query --admindir="$merged/var/lib/dpkg" -W -f "\${Version}" "$name"; }
version_rpm() { as_root chroot "$merged" rpm --query --queryformat '%{VERSION}-%{RELEASE}\n' "$name"; }
# What a cut leaves: dpkg's own word; how many rpm has of it.
state_deb() { as_root dpkg-query --admindir="$merged/var/lib/dpkg" -W -f "\${db:Status-Status}" "$name"; }
state_rpm() { version_rpm | wc -l; }

# The state in which a moment leaves it.
declare -A left=([unpacking_deb]=half-installed [configuring_deb]=half-configured [unpacking_rpm]=1 [configuring_rpm]=2)
unpacking() { as_root find "$merged/usr/bin" \( -name "$name.dpkg-new" -o -name "$name;*" \) | grep -q .; }
configuring() { # its script after the files is at work
  case $kind in
  deb) pgrep -f "$name.postinst configure" >/dev/null ;;
  rpm) as_root grep -qs '^systemd-sysusers' "$merged/var/tmp/rpm-tmp."* ;;
  esac
}
watching() { as_root grep -q '"phase": "watching"' "$merged$data-updates/state.json" 2>/dev/null; }

# What of its files is another's; its configuration is what a person changed.
changed_deb() { inside dpkg --audit; inside dpkg --verify "$name" | grep -v "c /etc/$name/appliance.toml"; }
changed_rpm() { inside rpm --verify "$name"; }

# ---- power cuts: everything ends at once, and the boot alone says what becomes of it ----

at_once() { # at_once SECONDS COMMAND...: until it succeeds, without a pause
  local end=$((SECONDS + $1))
  until "${@:2}"; do [ "$SECONDS" -lt "$end" ] || return 1; done
}
cut_power() { # cut_power MOMENT STATE WORDS...: as soon as that has come, in the midst of self-update
  local state
  inside systemd-run --quiet --unit=cut "$name" --lang en self-update "${@:3}"
  at_once 60 "$1" || { inside journalctl -u cut --no-pager >&2; told "self-update ${*:3} never came to: $1"; }
  power_cut
  state=$("state_$kind")
  [ "$state" = "$2" ] || die "the cut left the package $state, not $2"
  there_on_disk "$mark" || die "nothing says that an update is under way"
  began=$(date +%s%N)
  power_on
}
there_on_disk() { as_root test -e "$merged$1"; }
settled() { ! there_on_disk "$mark" && ! inside systemctl --quiet is-active "$name-settle"; }
comes_to() { # comes_to VERSION WHEN: it runs, nothing is under way, and it is what the package manager has
  local took held changed
  patiently 60 runs "$1" || told "after the power cut $1 does not run"
  patiently 30 settled || told "it is settled, and yet said to be under way"
  took=$(since "$began")
  held=$("version_$kind")
  [ "$held" = "$1-1" ] || die "the package manager has $held, not $1"
  changed=$("changed_$kind" || true)
  [ -z "$changed" ] || die "the package's files are not its own: $changed"
  # What rpm had begun: it leaves that where it is killed.
  as_root find "$merged/usr/bin" "$merged/var/tmp" \( -name "$name;*" -o -name 'rpm-tmp.*' \) -delete
  say "$kind: power cut while $2; the boot came to $1 in $took"
}

lives_by() { # lives_by deb|rpm: told without leave; with it under load, back, failing, cut short
  local version file first moment
  kind=$1
  for version in "$old" "$new" "$crashing" "$hanging"; do
    file=$("${kind}_of" "$version")
    first=${first:-$file}
    publish "$version" "$file"
  done
  as_root cp "$first" "$merged/root/package.$kind"
  "install_$kind"
  patiently 30 runs "$old" || told "no answer from the $kind"
  trust
  settle
  update 3 apply "$new"
  if [ "$kind" = deb ]; then says "apt-get install"; else says "dnf install"; fi
  runs "$old" || told "without leave, $new was installed"
  as_root sed -i 's/^watch_minutes = 0$/watch_minutes = 0\npackages = "on"/' "$merged/etc/$name/appliance.toml"
  under_load update 0 apply "$new" --anyway
  runs "$new" || told "$new does not run"
  say "$kind: told without leave; with it $old to $new under load: $(tail -n 1 "$work/load")"
  under_load update 0 rollback
  runs "$old" || told "$old does not run"
  say "$kind: back to $old under load: $(tail -n 1 "$work/load")"
  taken_back "$crashing" "$kind: $crashing crashes at its start"
  for moment in unpacking configuring; do
    cut_power "$moment" "${left[${moment}_$kind]}" apply "$new" --anyway
    comes_to "$new" "$moment $new"
    cut_power "$moment" "${left[${moment}_$kind]}" rollback
    comes_to "$old" "$moment $old"
  done
}
