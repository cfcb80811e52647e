package emulator

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
)

const maxControlBody = 64 << 10

// serveControl answers what steers the emulator from outside: /emulator/stats,
// /emulator/restart, /emulator/faults and /emulator/password, beside the base
// path and without a token. A real Control-M has none of it.
func (e *Emulator) serveControl(w http.ResponseWriter, r *http.Request) bool {
	var handle func(http.ResponseWriter, *http.Request) answer
	method := http.MethodPost
	switch r.URL.Path {
	case "/emulator/stats":
		handle, method = e.controlStats, http.MethodGet
	case "/emulator/restart":
		handle = e.controlRestart
	case "/emulator/faults":
		handle = e.controlFaults
	case "/emulator/password":
		handle = e.controlPassword
	default:
		return false
	}
	switch {
	case !fromLoopback(r):
		fail(http.StatusForbidden, "only for callers on this machine").write(w)
	case r.Method != method:
		w.Header().Set("Allow", method)
		fail(http.StatusMethodNotAllowed, "Request method is not supported").write(w)
	default:
		handle(w, r).write(w)
	}
	return true
}

// fromLoopback also turns web pages away: a browser on this machine must not be
// able to change a password because some page asked it to.
func fromLoopback(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() && r.Header.Get("Origin") == ""
}

func (e *Emulator) controlStats(http.ResponseWriter, *http.Request) answer {
	text, err := json.Marshal(e.Stats())
	if err != nil {
		return fail(http.StatusInternalServerError, "failed to print the counters")
	}
	return rawAnswer("application/json", append(text, '\n'))
}

func (e *Emulator) controlRestart(http.ResponseWriter, *http.Request) answer {
	e.Restart()
	return message("all sessions were dropped")
}

func (e *Emulator) controlFaults(w http.ResponseWriter, r *http.Request) answer {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControlBody))
	if err != nil {
		return *bodyFailure(err)
	}
	var list []Fault
	for line := range strings.Lines(string(body)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		f, err := ParseFault(line)
		if err != nil {
			return fail(http.StatusBadRequest, err.Error())
		}
		list = append(list, f)
	}
	e.SetFaults(list...)
	return message("faults were replaced")
}

func (e *Emulator) controlPassword(w http.ResponseWriter, r *http.Request) answer {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControlBody))
	if err != nil {
		return *bodyFailure(err)
	}
	password := strings.TrimRight(string(body), "\r\n") // as left by echo and by files
	if password == "" {
		return fail(http.StatusBadRequest, "the new password is expected as the body")
	}
	if !e.accounts.setPassword(r.URL.Query().Get("user"), password) {
		return fail(http.StatusNotFound, "User not found")
	}
	return message("password was replaced")
}
