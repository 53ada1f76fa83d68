#!/bin/sh
# Runs aria2c with the RPC secret of a file, which stands neither on the command line nor in the environment.
set -eu
umask 077
conf=/tmp/aria2.conf
session=/session/aria2.session
cat /etc/haul/aria2.conf >"$conf"
printf 'rpc-secret=%s\n' "$(cat "$ARIA2_SECRET_FILE")" >>"$conf"
[ -e "$session" ] || : >"$session"
umask 022
aria2c --conf-path="$conf" &
trap 'kill -TERM $!' TERM INT
code=0
wait $! || code=$?
while kill -0 $! 2>/dev/null; do # a signal came, and it saves its session
    code=0
    wait $! || code=$?
done
# It died of a fault of its own (SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV): what it died of may stand in its session, and it would
# die of it again before it can be told anything. Haul hands over anew what it is to do.
case $code in
132 | 134 | 135 | 136 | 139) : >"$session" ;;
esac
exit "$code"
