#!/bin/sh
# Runs aria2c with the RPC secret of a file, which stands neither on the command line nor in the environment.
set -eu
umask 077
conf=/tmp/aria2.conf
cat /etc/haul/aria2.conf >"$conf"
printf 'rpc-secret=%s\n' "$(cat "$ARIA2_SECRET_FILE")" >>"$conf"
[ -e /session/aria2.session ] || : >/session/aria2.session
umask 022
exec aria2c --conf-path="$conf"
