#!/usr/bin/env bash
# Makes the secrets of docker-compose.yml, once: deploy/secrets.sh [DIR]; those that exist are kept.
#
# The directory is for its owner alone. The files in it can be read by all, because each container reads its own
# as another user, through a mount of that one file.
set -euo pipefail
umask 077
directory=${1:-$(dirname "$0")/secrets}
mkdir -p "$directory"
cd "$directory"

random() { python3 -c 'import secrets; print(secrets.token_urlsafe(32), end="")'; }
made() {
  [[ -s $1 ]] && return
  cat >"$1.new"
  chmod 444 "$1.new"
  mv "$1.new" "$1"
  echo "made $directory/$1" >&2
}

made redis_password < <(random)
made mongo_root_password < <(random)
made mongo_password < <(random)
made aria2_secret < <(random)
made qbittorrent_password < <(random)
made backup_key < <(random)
made api_keys < <(random)
made flower_auth < <(echo -n haul: && random)
made redis.conf < <(echo "requirepass $(<redis_password)")
made redis_url < <(echo -n "redis://:$(<redis_password)@redis:6379/0")
made store_url < <(echo -n "mongodb://haul:$(<mongo_password)@mongo:27017/haul")
made engines < <(
  echo -n "aria2+http://:$(<aria2_secret)@aria2:6800/jsonrpc?name=aria2&slots=32&dir=/downloads,"
  echo -n "qbittorrent+http://haul:$(<qbittorrent_password)@qbittorrent:8080?name=qbittorrent&slots=32&dir=/downloads"
)
