//go:build unix

package config

import "syscall"

func init() {
	signals["USR1"], signals["USR2"], signals["WINCH"] = syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH
	signals["CONT"], signals["PIPE"], signals["TTIN"], signals["TTOU"] = syscall.SIGCONT, syscall.SIGPIPE, syscall.SIGTTIN, syscall.SIGTTOU
}
