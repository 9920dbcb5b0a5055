#!/bin/sh
# Before the package is removed: services of its own unit end in order. At an
# upgrade of the package, also when the old version is removed after the new one
# was installed (rpm: $1 counts what is left), they go on.
set -e

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl stop 'tablecloth@*.service' || true
	fi
	;;
esac
