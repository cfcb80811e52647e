package cli

import (
	"os"
	"syscall"
	"unsafe"
)

// hasBeenTold tells whether the command has s already: what is typed at a
// terminal goes to all processes in its foreground. Many programs take a
// second SIGINT for impatience, and clean up no further.
func hasBeenTold(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	terminal, err := os.Open("/dev/tty")
	if err != nil {
		return false // there is none, as under cron
	}
	defer func() { _ = terminal.Close() }()
	var foreground int32
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, terminal.Fd(), syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&foreground))) //nolint:gosec // where the kernel is to write
	return errno == 0 && int(foreground) == syscall.Getpgrp()
}
