# Sourced by tools/setup_env.sh and tools/setup_browser.sh.

fail() {
  echo "error: $*" >&2
  exit 1
}

# Installs packages with apt-get, as root or with sudo without a password; otherwise it
# fails and prints the command.
apt_install() {
  local command="apt-get install -y --no-install-recommends $*" as_root=() log
  if ((EUID != 0)); then
    sudo -n true > /dev/null 2>&1 ||
      fail "system packages are missing; install them as root: $command"
    as_root=(sudo -n)
  fi
  echo "installing the system packages $*"
  log="$(mktemp)"
  # shellcheck disable=SC2086
  { "${as_root[@]}" apt-get update -q &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $command -q; } \
    < /dev/null > "$log" 2>&1 || {
    tail -n 10 "$log" >&2
    fail "apt-get failed (see above; all of it: $log); install the packages with:" \
      "${as_root[*]:+sudo }apt-get update && ${as_root[*]:+sudo }$command"
  }
  rm -f "$log"
}
