package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

const (
	loopback = "127.0.0.1"
	// startTimeout and stopTimeout are far above what a loaded machine of two cores takes: they end a run that hangs.
	startTimeout = time.Minute
	stopTimeout  = 20 * time.Second
	// ticksPerSecond is the unit of times in /proc, the same on every Linux.
	ticksPerSecond = 100
)

// child is a process that the driver has started: this program in another role.
type child struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	log   *bytes.Buffer // read only after the process has ended
}

// start runs this program in a role and waits for the line that says it is ready.
func start(ctx context.Context, folder, name string, args ...string) (*child, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.CommandContext(ctx, self, args...) //nolint:gosec // this program, with arguments of ours
	// Caddy keeps things in these folders, and the operator's own are none of ours.
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+folder, "XDG_CONFIG_HOME="+folder)
	c := &child{name: name, cmd: cmd, log: new(bytes.Buffer)}
	cmd.Stderr = c.log
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, "", err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", fmt.Errorf("starting %s: %w", name, err)
	}
	late := time.AfterFunc(startTimeout, func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if !late.Stop() || err != nil {
		err = errors.Join(err, c.stop())
		return nil, "", fmt.Errorf("starting %s: %w", name, err)
	}
	return c, strings.TrimSpace(line), nil
}

// stop ends the process by closing its standard input. That also happens when the driver dies, so that none is left.
func (c *child) stop() error {
	_ = c.stdin.Close()
	late := time.AfterFunc(stopTimeout, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("stopping %s: %w; its log:\n%s", c.name, err, c.log)
	}
	return nil
}

// cpu is the user and system time that the process has used so far, in steps of 10 ms.
func (c *child) cpu() (time.Duration, error) {
	used, err := readTimes(strconv.Itoa(c.cmd.Process.Pid)+"/stat", parseStat)
	if err != nil {
		return 0, fmt.Errorf("reading the CPU time of %s, which needs Linux: %w", c.name, err)
	}
	return used, nil
}

func readTimes(name string, parse func(string) (time.Duration, error)) (time.Duration, error) {
	text, err := os.ReadFile("/proc/" + name)
	if err != nil {
		return 0, err
	}
	return parse(string(text))
}

// parseStat reads user and system time, fields 14 and 15 of proc_pid_stat(5).
func parseStat(stat string) (time.Duration, error) {
	// Field 2 is the program's name in brackets and may hold anything.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // from field 3 on
	if len(fields) < 13 {
		return 0, errors.New("the stat line is too short")
	}
	return sum(fields[11:13])
}

// parseBusy reads from the first line of /proc/stat how long the machine has been busy, time that its host gave to
// others included.
func parseBusy(stat string) (time.Duration, error) {
	first, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(first)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, errors.New("the stat line is too short")
	}
	// user, nice, system, then idle and iowait, which are left out, then irq, softirq, steal; guests are in user.
	return sum(append(fields[1:4:4], fields[6:9]...))
}

func sum(ticks []string) (time.Duration, error) {
	var total int64
	for _, field := range ticks {
		n, err := strconv.ParseInt(field, 10, 48)
		if err != nil {
			return 0, errors.New("a time in the stat line is no number")
		}
		total += n
	}
	return time.Duration(total) * time.Second / ticksPerSecond, nil
}

// freeAddr finds a loopback address that nobody listens on.
func freeAddr(ctx context.Context) (string, error) {
	var config net.ListenConfig
	ln, err := config.Listen(ctx, "tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
