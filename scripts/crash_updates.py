"""crash_updates.py BINARY KILLS: what scripts/crash-updates does. An archive's installation in a temporary folder, a service that
a small supervisor starts and stops, a signed repository; `self-update apply` is killed after a random time, with all it started,
every third time the service too. Prints what the kills met, and ends with 1 at the first thing that is not whole.
"""

import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter

NAME = "debrouille-appliance"
SCRIPT = pathlib.Path(__file__).with_name("release-repository")
binary, kills = pathlib.Path(sys.argv[1]), int(sys.argv[2])
place = pathlib.Path(tempfile.mkdtemp(prefix="crash-updates-"))
root, data, config = place / "opt", place / "data", place / "appliance.toml"

# What it was told it does, like systemd, whatever becomes of who told it; one word after the other.
SUPERVISOR = """#!/bin/sh
[ "$2" = apart ] || exec setsid --wait "$0" "$1" apart
exec 9>PLACE/supervised
flock 9
end() {
  pid=$(cat PLACE/pid 2>/dev/null) || return 0
  kill -"$1" -"$pid" 2>/dev/null || kill -"$1" "$pid" 2>/dev/null
  n=0
  while { kill -0 -"$pid" || kill -0 "$pid"; } 2>/dev/null && [ $n -lt 300 ]; do sleep 0.05; n=$((n + 1)); done
}
case $1 in
kill) end KILL ;;
halt) end TERM ;;
restart)
  end TERM
  setsid PLACE/opt/current/NAME --config PLACE/appliance.toml serve >>PLACE/log 2>&1 </dev/null 9>&- &
  echo $! >PLACE/pid
  ;;
esac
"""


def run(*words, check=True, **options):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    if check and done.returncode != 0:
        sys.exit(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def appliance(*words, check=True):
    return run(str(root / "current" / NAME), "--config", str(config), "--lang", "en", *words, check=check)


def answering():
    done = appliance("status", "--json", check=False)
    try:
        return json.loads(done.stdout).get("version")
    except ValueError:
        return None


def until(seconds, seen):
    end = time.monotonic() + seconds
    while not seen():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def set_up():
    """Answers the versions and the digests of their programs."""
    program = place / "program"
    run("strip", "-o", str(program), str(binary))
    old = json.loads(run(str(program), "version", "--json").stdout)["version"]
    new = old[: old.rindex(".") + 1] + "9"
    told = f"{NAME} release {old}".encode()
    content = program.read_bytes()
    assert content.count(told) == 1 and len(old) == len(new), "where a program tells its release"
    (root / "versions" / old).mkdir(parents=True)
    shutil.copy(program, root / "versions" / old / NAME)
    (root / "current").symlink_to(f"versions/{old}")
    folder = place / f"{NAME}-{new}-x86_64-linux"
    folder.mkdir()
    (folder / NAME).write_bytes(content.replace(told, f"{NAME} release {new}".encode()))
    (folder / NAME).chmod(0o755)
    archive = place / f"{folder.name}.tar.gz"
    run("tar", "-C", str(place), "-I", "gzip -1", "-cf", str(archive), folder.name)
    (place / "passphrase").write_text("a passphrase of some length")

    def sign(*words):
        run(str(SCRIPT), "--passphrase-file", "passphrase", *words, cwd=place)

    for key in ("offline", "online"):
        sign("key", key)
    sign("init", "--root", "offline.pub", "--root-threshold", "1", "--targets", "offline.pub", "--targets-threshold", "1",
         "--snapshot", "online.pub", "--timestamp", "online.pub")
    sign("sign", "root", "--key", "offline", "--yes")
    sign("add", str(archive), "--version", new)
    sign("sign", "targets", "--key", "offline", "--yes")
    sign("publish", "--key", "online")
    shutil.copy(place / "repository/metadata/1.root.json", place / "root.json")
    return old, new, {old: digest(program), new: digest(folder / NAME)}


def configure():
    (place / "control").write_text(SUPERVISOR.replace("PLACE", str(place)).replace("NAME", NAME))
    (place / "control").chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = json.loads(run(str(root / "current" / NAME), "--json", "backup", "keys", "generate", "-o", str(place / "key")).stdout)
    config.write_text(
        f'[instance]\ndata_dir = "{data}"\nenvironment = "development"\n'
        f'[server]\nhttps = "127.0.0.1:{port}"\nhttp = "off"\nops = "off"\nhostnames = ["localhost"]\n'
        f'[backup]\nrecipients = ["{key["recipient"]}"]\n'
        f'[update]\nsource = "{place}/repository"\nroot = "{place}/root.json"\ndirectory = "{place}/updates"\n'
        f'control = "{place}/control"\nready_seconds = 20\nwatch_minutes = 0\n'
    )
    password = place / "password"
    password.write_text("correct-horse-battery-staple")
    password.chmod(0o600)
    appliance("init", "--environment", "development", "--hostname", "localhost", "--admin-email", "a@example.cd", "--admin-password-file", str(password))


def whole(versions, digests):
    """What a start would run is one of both, every byte of it; what is noted can be read."""
    link = pathlib.Path(os.readlink(root / "current")).name
    assert link in versions, link
    assert digest(root / "versions" / link / NAME) == digests[link], f"{link} is not whole"
    state = place / "updates/state.json"
    phase = json.loads(state.read_text()).get("underWay", {}).get("phase", "none") if state.exists() else "none"
    assert phase == "none" or (place / "updates/under-way").exists(), f"{phase}, and no boot would know"
    return link, phase


def main():
    old, new, digests = set_up()
    configure()
    run(str(place / "control"), "restart")
    assert until(30, lambda: answering() == old), (place / "log").read_text()[-2000:]
    started = time.monotonic()
    appliance("self-update", "apply")
    longest = (time.monotonic() - started) * 1.05
    appliance("self-update", "rollback")
    met, begun = Counter(), time.monotonic()
    for turn in range(kills):
        if turn % 2:
            shutil.rmtree(root / "versions" / new, ignore_errors=True)
        words = [str(root / "current" / NAME), "--config", str(config), "self-update", "apply", new]
        command = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(random.uniform(0, longest))
        late = command.poll() is not None
        if not late:
            os.killpg(command.pid, signal.SIGKILL)
        if turn % 3 == 0:
            run(str(place / "control"), "kill")
        command.wait()
        link, phase = whole((old, new), digests)
        met["over" if late else f"{phase}, {'old' if link == old else 'new'} in place"] += 1
        if turn % 3 == 0:
            run(str(place / "control"), "restart")
        assert until(30, lambda: answering() in (old, new)), f"turn {turn}: nobody answers"
        if turn % 2:
            # As the boot would; one release or the other is the end of it.
            appliance("self-update", "apply", "--unfinished")
            assert whole((old, new), digests)[1] == "none" and not (place / "updates/under-way").exists(), f"turn {turn}: not settled"
        appliance("self-update", "apply", new)
        assert whole((old, new), digests) == (new, "none") and until(20, lambda: answering() == new), f"turn {turn}: not finished"
        appliance("self-update", "rollback")
        assert whole((old, new), digests) == (old, "none") and answering() == old, f"turn {turn}: not back"
        if turn % 50 == 49:
            print(f"{turn + 1} kills, {time.monotonic() - begun:.0f} s: {dict(met)}", flush=True)
    print(f"{kills} kills: always one of both, whole, and finished by the next command: {dict(met)}")


try:
    main()
finally:
    subprocess.run([str(place / "control"), "kill"], check=False)
    shutil.rmtree(place, ignore_errors=True)
