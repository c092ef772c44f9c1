# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # what check-packages sets, and reads
# shellcheck disable=SC2016,SC2317 # what an inner shell reads; what is called by its name
# What check-packages does with the other formats: judges them, and lives with the rpm, the archive and the image.
# Sourced by check-packages, whose words and booted system it uses; never run.

# ---- made twice, judged ----

# made FORMAT [VERSION [OPTION...]]: made twice, the same bytes; prints the file.
made() {
  local file again
  file=$(scripts/package "$1" "$binary" "$work/first" "${@:2}" 2>"$work/made") || { cat "$work/made" >&2; die "no $1"; }
  again=$(scripts/package "$1" "$binary" "$work/again" "${@:2}" 2>"$work/made") || { cat "$work/made" >&2; die "no $1"; }
  cmp "$file" "$again" || die "the same commit and binary gave two different files: $1"
  rm "$again"
  say "$1: $(basename "$file"), $(du -h "$file" | cut -f 1), the same bytes twice"
  printf '%s\n' "$file"
}

# A part that cannot be made fails the whole, and an older one is not taken for it.
judge_all() {
  local tool place=$work/broken/debrouille-appliance/cargo-tools
  if scripts/package all "$binary" "$work/whole" >"$work/made" 2>&1; then die "all of a binary that was given is made without a word"; fi
  grep -qE 'is not its commit|did not build' "$work/made" || { cat "$work/made" >&2; die "it is not said why not all is made"; }
  tool=$(grep -om 1 'cargo-deb@[0-9.]*' scripts/package)
  mkdir -p "$place/$tool/bin" "$work/whole"
  ln -s "$(type -P false)" "$place/$tool/bin/cargo-deb"
  cp "$package" "$work/whole"
  if XDG_CACHE_HOME=$work/broken scripts/package all --anyhow "$binary" "$work/whole" >"$work/made" 2>&1; then die "all is made without the .deb"; fi
  [ ! -e "$work/whole/SHA256SUMS" ] || die "what is not whole has its checksums"
  say "all: of a given binary only when told to; fails where a part does"
}

judge_rpm() {
  need rpm rpm "the rpm's digests are checked"
  need rpmlint rpmlint "the rpm is judged"
  rpm -K --nosignature "$1" >"$work/digests" || { cat "$work/digests" >&2; die "rpm -K finds the package damaged"; }
  # What is answered is in packaging/rpm/rpmlint.toml, with the reason. Warnings do not make it fail by themselves.
  rpmlint --config packaging/rpm/rpmlint.toml "$1" >"$work/rpmlint" 2>&1 || { cat "$work/rpmlint" >&2; die "rpmlint finds fault with the package"; }
  grep -qE ' 0 errors, 0 warnings' "$work/rpmlint" || { cat "$work/rpmlint" >&2; die "rpmlint warns of what is not answered"; }
  say "rpm -K: digests right; rpmlint: no error, no warning but those answered"
}

judge_sbom() {
  python_package cyclonedx.validation.json 'cyclonedx-python-lib[json-validation]==11.5.0'
  "$VENV/bin/python" - "$1" <<'PY' || die "the list of parts is not CycloneDX 1.6"
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
text = open(sys.argv[1]).read()
fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
if fault:
    sys.exit(str(fault)[:2000])
bom = json.loads(text)
names = {part["name"] for part in bom["components"]}
for part in ("redb", "rustls", "aws-lc", "glibc", "rust-std"):
    assert part in names, f"{part} is in the binary, and not in the list"
for other in ("proptest", "mongodb", "passkey", "serde_derive", "cc"):
    assert other not in names, f"{other} is not in the binary, but in the list"
for part in bom["components"]:
    assert part["licenses"][0]["expression"], f"{part['name']} has no licence"
PY
  say "list of parts: CycloneDX 1.6 by its schema, $(grep -c '"bom-ref"' "$1") parts"
}

# ---- the rpm, by rpm itself, in the booted system: Debian's, for want of another's mirrors ----

# What rpm cannot know here is what Debian has: systemd and a shell.
by_rpm() { inside rpm --nodeps "$@"; }
install_rpm() {
  as_root cp "$1" "$merged/root/package.rpm"
  by_rpm -U --force /root/package.rpm >"$work/rpm" 2>&1 || { cat "$work/rpm" >&2; told "rpm -U $(basename "$1") failed"; }
}

live_with_rpm() { # live_with_rpm RPM NEWER
  local unit before id password

  inside install -d -m 700 -o nobody -g nogroup "$data"
  as_root cp "$1" "$merged/root/package.rpm"
  if by_rpm -i /root/package.rpm >"$work/rpm" 2>&1; then die "data of another user do not stop the rpm"; fi
  grep -qF "$data belongs to nobody" "$work/rpm" || { cat "$work/rpm" >&2; die "the rpm does not say whose the data are"; }
  ! there "/usr/bin/$name" || die "an rpm that was stopped left its files"
  inside rmdir "$data"

  install_rpm "$1"
  all_are enabled
  for unit in "${units[@]}"; do
    [ "$(shown ActiveState "$unit")" = inactive ] || told "rpm: $unit does not wait for an instance"
  done
  [ -z "$(inside find "$data" -mindepth 1)" ] || die "the rpm made something in $data"
  by_rpm -V "$name" >"$work/verified" 2>&1 || { cat "$work/verified" >&2; die "what the rpm installed is not what it lists"; }
  [ "$(inside stat -c '%a %U' "$data")" = "700 $name" ] || die "rpm: others may look into $data"
  [ "$(inside stat -c '%a %U:%G' "$settings")" = "640 root:$name" ] || die "rpm: $settings: $(inside stat -c '%a %U:%G' "$settings")"
  [ "$(inside stat -c '%a %U:%G' "/usr/bin/$name")" = "755 root:root" ] || die "rpm: the binary's mode"
  for unit in "${units[@]}"; do cmp "packaging/systemd/$unit" "$merged/usr/lib/systemd/system/$unit" || die "rpm: another $unit"; done
  for file in "/usr/share/man/man1/$name.1.gz" "/usr/share/licenses/$name/LICENSE" "/usr/share/licenses/$name/THIRD-PARTY-LICENSES.gz"; do
    there "$file" || die "the rpm has no $file"
  done
  say "rpm installed: files as listed, enabled by preset, waiting for an instance, nothing made; data of another user stop it"

  password=$work/first-password
  echo 'A-first-password-of-the-check' >"$password"
  as_root cp "$password" "$merged/root/first-password"
  inside "$name" init --environment production --hostname "$host" --hostname localhost --admin-email "admin@$host" \
    --admin-password-file /root/first-password >"$work/init" 2>&1 || { cat "$work/init" >&2; die "init after the rpm failed"; }
  inside systemctl start "$service"
  patiently 30 answers || told "no answer after the rpm and init"
  id=$(instance)
  inside sh -c "echo '# edited by hand' >>$settings"
  before=$(inside sha256sum "$settings")
  main=$(shown MainPID)
  upgraded_under_load install_rpm "$2"
  [ "$(inside rpm -q --queryformat '%{RELEASE}' "$name")" = 1+test1 ] || die "the rpm's upgrade did not take place"
  [ "$(inside sha256sum "$settings")" = "$before" ] || die "the rpm's upgrade changed $settings"
  say "rpm upgraded under load: $(cat "$work/load")"

  inside systemctl disable "$name" >"$work/disable" 2>&1 || { cat "$work/disable" >&2; die "the service cannot be disabled"; }
  inside systemctl stop "$name*"
  install_rpm "$1" # older again: what --force allows
  all_are disabled
  refuses || told "disabled and stopped, it answers after an rpm"
  by_rpm -e "$name" >"$work/rpm" 2>&1 || { cat "$work/rpm" >&2; told "rpm -e failed"; }
  [ "$(instance)" = "$id" ] || die "rpm -e took the data"
  [ "$(inside sha256sum "$settings")" = "$before" ] || die "rpm -e took the configuration"
  install_rpm "$2"
  patiently 30 answers || told "no answer after the rpm was installed again"
  [ "$(instance)" = "$id" ] || die "installed again, the rpm has another instance"
  by_rpm -e "$name" >"$work/rpm" 2>&1 || { cat "$work/rpm" >&2; told "rpm -e failed"; }
  refuses || told "rpm -e leaves it answering"
  ! there "/usr/lib/systemd/system/$service" || die "rpm -e left a unit"
  say "rpm disabled: stays so through an upgrade; removed: data and configuration stay; again: the same instance answers"
  forget_data
}

# As docs/install.md says for what has no purge.
forget_data() {
  inside sh -c "rm -rf $data $data.* $data-drill $data-updates /etc/$name && userdel $name" >"$work/forget" 2>&1 || { cat "$work/forget" >&2; die "data cannot be deleted by hand"; }
}

# ---- the archive, as its README says ----

live_with_archive() { # live_with_archive FILE
  local folder commands before
  as_root tar -xzf "$1" -C "$merged/root"
  folder=$(basename "$1" .tar.gz)
  # The lines of the README, for this host; its `enable --now` starts what they made.
  commands=$(sed -n '/^```console/,/^```/s/^# //p' "$merged/root/$folder/README.md" | sed "s/box\.example\.cd/$host/")
  printf 'set -e\ncd /root/%s\n%s\n' "$folder" "$commands" | as_root tee "$merged/root/by-hand" >/dev/null
  inside sh /root/by-hand >"$work/by-hand" 2>&1 || { cat "$work/by-hand" >&2; told "the archive's README does not install it"; }
  patiently 30 answers || told "no answer from what the archive's README installed"
  for unit in "${units[@]}"; do [ "$(shown ActiveState "$unit")" = active ] || told "from the archive, $unit is not active"; done
  # Pasted once more into a shell, which goes on after what fails.
  before=$(inside sh -c "echo '# edited by hand' >>$settings && sha256sum $settings /usr/bin/$name")
  inside sh -c "sed -i '/^set -e$/d' /root/by-hand && sh /root/by-hand" >"$work/by-hand" 2>&1 || true
  [ "$(inside sha256sum "$settings" "/usr/bin/$name")" = "$before" ] || die "the archive's README, run again, changes the configuration or what runs"
  answers || told "the archive's README, run again, stops the service"
  inside systemctl disable "$name" >/dev/null 2>&1
  inside systemctl stop "$name*"
  say "archive: unpacked and installed by its README, answers; run again, it changes nothing"
}

# ---- the image, as its configuration says ----

# Unpacked by its digests: the layer into FOLDER/layer.tar.gz, and FOLDER/run, which runs it under /root/image as it says.
unpack_image() { # unpack_image FILE FOLDER
  python3 - "$1" "$2" <<'PY'
import hashlib, json, shlex, sys, tarfile
with tarfile.open(sys.argv[1]) as image:
    def blob(entry):
        content = image.extractfile("blobs/sha256/" + entry["digest"].removeprefix("sha256:")).read()
        assert "sha256:" + hashlib.sha256(content).hexdigest() == entry["digest"] and len(content) == entry["size"]
        return content
    index = json.load(image.extractfile("index.json"))
    entry, = index["manifests"]
    manifest = json.loads(blob(entry))
    config = json.loads(blob(manifest["config"]))
    layer, = manifest["layers"]
    open(sys.argv[2] + "/layer.tar.gz", "wb").write(blob(layer))
    older, = json.load(image.extractfile("manifest.json"))
tag = entry["annotations"]["org.opencontainers.image.ref.name"]
assert older["RepoTags"] == [tag] and older["Config"] == "blobs/sha256/" + manifest["config"]["digest"][7:]
assert older["Layers"] == ["blobs/sha256/" + layer["digest"][7:]]
assert tag.endswith("-" + entry["digest"][7:19]), f"the tag {tag} does not name the digest {entry['digest']}"
run = config["config"]
assert run["User"].split(":")[0].isdecimal() and run["User"].split(":")[0] != "0", "it runs as root, or as a name"
with open(sys.argv[2] + "/run", "w") as file:
    words = ["env", "-i", *run["Env"], "/usr/sbin/chroot", "--userspec=" + run["User"], "/root/image", *run["Entrypoint"]]
    print("echo $$ >/root/image.pid\nexec", shlex.join(words), '"$@"', file=file)
PY
}

live_with_image() { # live_with_image FILE
  local served kind
  unpack_image "$1" "$work" || die "the image is not what its digests say"
  need skopeo skopeo "the image is read as docker and podman do"
  for kind in oci-archive docker-archive; do
    skopeo inspect "$kind:$1" >"$work/inspected" 2>&1 || { cat "$work/inspected" >&2; die "the image is no $kind"; }
  done
  as_root mkdir -p "$merged/root/image/proc"
  as_root tar -xzf "$work/layer.tar.gz" -C "$merged/root/image" --numeric-owner
  as_root cp "$work/run" "$merged/root/run"
  # Everything but /data for reading alone, as by `--read-only`; /proc as every engine gives it.
  inside sh -ec 'cd /root/image; mount --bind . .; cd /root/image; mount --bind data data; mount -t proc proc proc; mount -o remount,bind,ro .'
  if inside sh -c ': >/root/image/tmp/file' 2>/dev/null; then die "the image's root can be written"; fi
  inside sh /root/run init --environment production --hostname "$host" --hostname localhost --admin-email "admin@$host" \
    >"$work/init" 2>&1 || { cat "$work/init" >&2; die "init in the image failed"; }
  inside sh /root/run serve >"$work/served" 2>&1 &
  served=$!
  image_answers() {
    [ "$(beside curl -s --max-time 10 --cacert "$merged/root/image/data/ca.crt" --resolve "$host:8443:127.0.0.1" \
      -o /dev/null -w '%{http_code}' "https://$host:8443/")" = 200 ]
  }
  patiently 30 image_answers || { cat "$work/served" >&2; die "the image does not answer"; }
  [ "$(inside sh -c 'stat -c %u:%g /proc/$(cat /root/image.pid)')" = 65532:65532 ] || die "the image runs as another user"
  inside sh -c 'kill -TERM $(cat /root/image.pid)'
  wait "$served" || { cat "$work/served" >&2; die "the image does not end as it should"; }
  say "image: digests and tag right; as a number without rights, on a root that cannot be written: init, answers, ends"
}
