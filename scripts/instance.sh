# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read by those who source it
# An instance for a script to look at, gone with it. Sourced, never run.

# What it still writes as it ends would come between.
end_instance() {
  if [ -n "$SERVER" ]; then
    kill "$SERVER" 2>/dev/null || true
    wait "$SERVER" 2>/dev/null || true
  fi
  rm -rf "$FOLDER"
}

# start_instance BINARY: in FOLDER, serving HTTPS at PORT and ops at OPS_PORT of loopback, until the script ends.
start_instance() {
  local binary=$1
  FOLDER=$(mktemp -d)
  SERVER=
  trap end_instance EXIT
  (umask 077 && head -c 24 /dev/urandom | base64 >"$FOLDER/password")
  local command=(env -i "PATH=$PATH" "$binary" --config "$FOLDER/appliance.toml" --data-dir "$FOLDER/data" --lang en)
  "${command[@]}" init --environment staging --hostname localhost --admin-password-file "$FOLDER/password" >/dev/null
  "${command[@]}" serve --https 127.0.0.1:0 --http off --ops 127.0.0.1:0 </dev/null >"$FOLDER/log" 2>&1 &
  SERVER=$!
  for _ in $(seq 100); do
    if grep -q '"message":"ready"' "$FOLDER/log" || ! kill -0 "$SERVER" 2>/dev/null; then break; fi
    sleep 0.1
  done
  PORT=$(port_of https)
  OPS_PORT=$(port_of ops)
  if [ -z "$PORT" ] || [ -z "$OPS_PORT" ]; then
    cat "$FOLDER/log" >&2
    die "the server did not start"
  fi
}

port_of() { sed -n "s/.*\"message\":\"ready\".*\"$1\":\"127.0.0.1:\([0-9]*\)\".*/\1/p" "$FOLDER/log"; }
