#!/bin/sh
# After an installation or an upgrade of the package. Running services are left
# alone: they go on with the program that they were started with.
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
