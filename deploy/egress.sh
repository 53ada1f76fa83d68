#!/bin/sh
# Keeps engines out of private networks, in this network namespace: loads egress.nft, in one step, with what is allowed.
#
#   egress.sh [USER]    engines that run as this user; without one everybody in the namespace, as in a container
#
# HAUL_ALLOW_NETWORKS opens networks, a comma list of CIDRs. Needs nft and CAP_NET_ADMIN.
set -eu
rules=$(cat "$(dirname "$0")/egress.nft")
users=0-4294967294
[ $# -eq 0 ] || users=$(id -u "$1")
resolvers=$(sed -n 's/^nameserver[[:space:]]*\([^[:space:]%]*\)[[:space:]]*$/\1/p' /etc/resolv.conf)

# add SET4 SET6 ADDRESS…
add() {
  four=$1 six=$2
  shift 2
  for address in "$@"; do
    case $address in
      *:*) printf 'add element inet haul_egress %s { %s }\n' "$six" "$address" ;;
      *) printf 'add element inet haul_egress %s { %s }\n' "$four" "$address" ;;
    esac
  done
}

# shellcheck disable=SC2046,SC2086 # words on purpose
rules="$rules
add element inet haul_egress engines { $users }
$(add allowed4 allowed6 $(printf '%s' "${HAUL_ALLOW_NETWORKS:-}" | tr ',' ' '))
$(add resolvers4 resolvers6 $resolvers)"
printf '%s\n' "$rules" | nft -f -
