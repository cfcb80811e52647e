package cli

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// terminal is a pseudo-terminal; what a program prints on it goes to printed.
type terminal struct {
	keyboard *os.File
	tty      *os.File
	gone     chan struct{} // closed once all that was printed is read
	*process               // its output alone
}

func openTerminal(t *testing.T) *terminal {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var unlock, number int32
	for request, argument := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, keyboard.Fd(), request, uintptr(unsafe.Pointer(argument))); errno != 0 {
			t.Fatal(errno)
		}
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, done: make(chan struct{}), changed: make(chan struct{})}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for block := make([]byte, 1024); ; {
			n, err := keyboard.Read(block)
			_, _ = p.Write(block[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = tty.Close(); _ = keyboard.Close(); <-gone })
	return &terminal{keyboard, tty, gone, p}
}

// enter types a line.
func (term *terminal) enter(line string) {
	if _, err := term.keyboard.WriteString(line + "\r"); err != nil {
		term.t.Error(err)
	}
}

// echoes tells whether what is typed is shown.
func (term *terminal) echoes() bool {
	var state syscall.Termios
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, term.keyboard.Fd(), syscall.TCGETS, uintptr(unsafe.Pointer(&state)))
	return errno == 0 && state.Lflag&syscall.ECHO != 0
}

// prompt begins a password update on a terminal.
func (r rotating) prompt(t *testing.T, args ...string) *terminal {
	t.Helper()
	term := openTerminal(t)
	term.cmd = exec.Command(program, append([]string{"password", "update"}, args...)...)
	term.cmd.Env = r.environ(r.env...)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = term.tty, term.tty, term.tty
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = term.cmd.Wait()
		_ = term.tty.Close() // nobody else has it now, so the reading ends
		<-term.gone
		close(term.done)
	}()
	t.Cleanup(func() {
		_ = term.cmd.Process.Kill()
		<-term.done
	})
	return term
}

func TestTheNewPasswordIsAskedForTwiceAndNotShown(t *testing.T) {
	r := newRotating(t)
	term := r.prompt(t, "--write", r.file)
	term.waitFor("New password for batch: ")
	eventually(t, "the echo is off", func() bool { return !term.echoes() })
	term.enter(changed)
	term.waitFor("The new password again: ")
	eventually(t, "the echo is off", func() bool { return !term.echoes() })
	term.enter(changed)
	out := term.waitFor("the new one works")
	if code, _ := term.exit(); code != 0 || strings.Contains(out, canary) {
		t.Errorf("got %d", code)
	}
	r.after(t, changed, changed+"\n", "password")
}

func TestTwoThatAreNotTheSameChangeNothing(t *testing.T) {
	r := newRotating(t)
	term := r.prompt(t)
	for i, prompt := range []string{"New password for batch: ", "The new password again: "} {
		term.waitFor(prompt)
		eventually(t, "the echo is off", func() bool { return !term.echoes() })
		term.enter(fmt.Sprint(canary, i))
	}
	term.waitFor("the two are not the same; nothing was changed")
	if code, _ := term.exit(); code != 1 {
		t.Errorf("got %d", code)
	}
	r.settled(t, 0)
}

func TestCtrlCAtThePromptGivesTheTerminalBack(t *testing.T) {
	r := newRotating(t)
	term := r.prompt(t)
	term.waitFor("New password for batch: ")
	eventually(t, "the echo is off", func() bool { return !term.echoes() })
	if _, err := term.keyboard.WriteString(canary + "\x03"); err != nil {
		t.Fatal(err)
	}
	out := term.waitFor("nothing was changed")
	if code, _ := term.exit(); code != 1 || !term.echoes() || strings.Contains(out, canary) {
		t.Errorf("got %d, echo %v: %q", code, term.echoes(), out)
	}
	r.settled(t, 0)
}
