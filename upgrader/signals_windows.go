package upgrader

import (
	"os"
	"syscall"
)

const hangup = syscall.SIGHUP

func signalName(s os.Signal) string { return s.String() }
