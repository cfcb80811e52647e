package emulator

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// The texts below are the API's own (controlm-api.md 1 and 2). Clients compare
// them, so they must not be reworded.
const (
	wordsRefused = "Failed to login: Incorrect username or password"
	wordsExpired = "Session token is invalid or expired"
	wordsLogout  = "Successfully logged out from session "
	wordsOutput  = "OUTPUT DOES NOT EXIST FOR THIS JOB"
)

// errorData is one element of an ErrorList. Item stays out when empty: the
// official Python client concatenates it to the message and fails on null
// (controlm-api.md 0.2, 5.5).
type errorData struct {
	Message string `json:"message"`
	ID      string `json:"id,omitempty"`
	Item    string `json:"item,omitempty"`
	File    string `json:"file,omitempty"`
}

// maxText bounds each name and text that a client can make the emulator keep.
const maxText = 1024

func tooLong(texts ...string) bool {
	return slices.ContainsFunc(texts, func(s string) bool { return len(s) > maxText })
}

type errorList struct {
	Errors []errorData `json:"errors"`
}

type successData struct {
	Message string `json:"message"`
}

// answer is what a route's handler wants sent. A handler that has written to the
// client itself returns the zero answer.
type answer struct {
	status      int
	body        any
	contentType string
	raw         []byte
}

func ok(body any) answer                     { return answer{status: http.StatusOK, body: body} }
func answerWith(status int, body any) answer { return answer{status: status, body: body} }
func message(text string) answer             { return ok(successData{Message: text}) }
func fail(status int, text string) answer    { return answerWith(status, errorsOf(text)) }
func errorsOf(text string) errorList         { return errorList{Errors: []errorData{{Message: text}}} }
func plain(text string) answer               { return rawAnswer("text/plain;charset=UTF-8", []byte(text)) }
func rawAnswer(kind string, raw []byte) answer {
	return answer{status: http.StatusOK, contentType: kind, raw: raw}
}

func (a answer) write(w http.ResponseWriter) {
	if a.status == 0 {
		return
	}
	raw, kind := a.raw, a.contentType
	if a.body != nil {
		raw, kind = vendorJSON(a.body), "application/json"
	}
	h := w.Header()
	if kind != "" {
		h.Set("Content-Type", kind)
	}
	if a.status == http.StatusNoContent || a.status == http.StatusNotModified {
		w.WriteHeader(a.status) // these have no body
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(a.status)
	_, _ = w.Write(raw) // the client may be gone; nobody is left to tell
}

// vendorJSON lays JSON out as Jackson's default pretty printer does: `"name" :
// "value"` with a blank on both sides of the colon, objects over several lines,
// arrays in one. Shell clients cut the login token out of exactly this layout
// with `${login##*token\" : \"}` (controlm-api.md 5.4).
func vendorJSON(v any) []byte {
	var compact bytes.Buffer
	enc := json.NewEncoder(&compact)
	enc.SetEscapeHTML(false) // Jackson leaves & and < alone, and URLs hold &
	if err := enc.Encode(v); err != nil {
		// Only values of this package come here, so this is a bug, shown as the
		// server would show one.
		return vendorJSON(errorsOf("failed to print an answer"))
	}
	return layOut(bytes.TrimRight(compact.Bytes(), "\n"))
}

// layOut turns valid compact JSON into the layout described at vendorJSON.
func layOut(compact []byte) []byte {
	out := make([]byte, 0, len(compact)*2)
	var open []byte // the brackets around the current byte
	depth, quoted := 0, false
	newline := func() { out = append(append(out, '\n'), strings.Repeat("  ", depth)...) }
	for i := 0; i < len(compact); i++ {
		b := compact[i]
		switch {
		case quoted:
			out = append(out, b)
			switch b {
			case '\\':
				i++
				out = append(out, compact[i])
			case '"':
				quoted = false
			}
		case b == '"':
			quoted = true
			out = append(out, b)
		case b == '{' || b == '[':
			open = append(open, b)
			out = append(out, b)
			if next := compact[i+1]; next == '}' || next == ']' {
				out = append(out, ' ')
				continue
			}
			if b == '[' {
				out = append(out, ' ')
				continue
			}
			depth++
			newline()
		case b == '}' || b == ']':
			open = open[:len(open)-1]
			empty := compact[i-1] == '{' || compact[i-1] == '['
			switch {
			case empty:
			case b == ']':
				out = append(out, ' ')
			default:
				depth--
				newline()
			}
			out = append(out, b)
		case b == ',' && open[len(open)-1] == '{':
			out = append(out, b)
			newline()
		case b == ',':
			out = append(out, ',', ' ')
		case b == ':':
			out = append(out, ' ', ':', ' ')
		default:
			out = append(out, b)
		}
	}
	return out
}
