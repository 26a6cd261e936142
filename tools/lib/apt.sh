# Debian packages by the machine's own apt configuration.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/base.sh"

# missing_packages NAME...: those that are not installed.
missing_packages() {
  comm -23 <(printf '%s\n' "$@" | sort -u) \
    <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^.i *//p' | sort -u)
}

# install_packages NAME...: installs those that are missing, as root or by sudo. Touches nothing when none is.
install_packages() {
  local missing as_root=()
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || die "this machine has no apt-get; install what these Debian packages hold: ${missing[*]}"
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "missing packages, and no sudo to install them; as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  mkdir -p "$cache"
  local log=$cache/apt.log
  # The lists may be absent (containers) or older than the archive.
  { "${as_root[@]}" apt-get -q update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${missing[@]}"; } \
    </dev/null >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "apt-get failed, see $log; by hand: apt-get update && apt-get install ${missing[*]}"
  }
}

# How to call apt so that it reads package lists: the machine's, until refresh_lists made our own.
apt_options=(-o APT::Sandbox::User=root)

# refresh_lists: fetches the package lists into our cache, which takes no root.
refresh_lists() {
  local own=$cache/apt
  mkdir -p "$own/lists/partial" "$own/archives/partial"
  apt_options+=(-o "Dir::State::lists=$own/lists" -o "Dir::Cache=$own" -o Debug::NoLocking=true)
  say "fetching the lists of Debian's packages"
  apt-get "${apt_options[@]}" -qq update >&2 || die "apt-get update failed: is the Debian archive reachable?"
}

# know_package NAME: makes sure that the lists know NAME.
know_package() {
  [[ -z $(apt-cache "${apt_options[@]}" pkgnames "$1") ]] || return 0
  [[ ${apt_options[*]} == *Dir::State* ]] || refresh_lists
  [[ -n $(apt-cache "${apt_options[@]}" pkgnames "$1") ]] ||
    die "no package $1 in this machine's apt sources (Debian 12 with its security archive has it)"
}

# unpack_kernel META DIRECTORY: downloads the kernel package that META stands for now and unpacks it there.
unpack_kernel() {
  know_package "$1"
  unpack_package "$(apt-cache "${apt_options[@]}" depends "$1" | awk '/Depends: linux-image-/ && !n++ {print $2}')" "$2"
}

# unpack_package NAME DIRECTORY: downloads the package and unpacks it there, without installing it.
unpack_package() {
  local name=$1 directory=$2 version size
  know_package "$name"
  read -r version size < <(apt-cache "${apt_options[@]}" show --no-all-versions "$name" |
    awk '/^Version:/{v=$2} /^Size:/{s=$2} END{printf "%s %.1f\n", v, s / 1e6}')
  say "downloading $name $version ($size MB) from the Debian archive"
  mkdir -p "$directory/deb"
  if ! (cd "$directory/deb" && apt-get "${apt_options[@]}" -qq download "$name" >&2); then
    # The archive drops a version when the next one appears, so older lists may name a file that is gone.
    [[ ${apt_options[*]} == *Dir::State* ]] || refresh_lists
    (cd "$directory/deb" && apt-get "${apt_options[@]}" -qq download "$name" >&2) || die "cannot download $name"
  fi
  dpkg -x "$directory"/deb/*.deb "$directory"
  rm -r "$directory/deb"
}
