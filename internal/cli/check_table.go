package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Results of a check, as --json prints them; the help says what they mean.
const (
	resultOK           = "ok"
	resultNotResolved  = "name_not_resolved"
	resultNotConnected = "no_connection"
	resultLost         = "connection_lost"
	resultLate         = "timed_out"
	resultNoTLS        = "no_tls"
	resultTLS          = "tls_failed"
	resultUntrusted    = "certificate_untrusted"
	resultOtherName    = "certificate_name"
	resultExpired      = "certificate_expired"
	resultNotHTTP      = "not_http"
	resultNotAPI       = "not_automation_api"
	resultRefused      = "refused"
	resultForbidden    = "forbidden"
	resultFailed       = "failed"
	resultNotTried     = "not_tried"
	resultNotOpened    = "not_opened"
)

// checkRow is one account at one endpoint. Its JSON is documented in the help.
type checkRow struct {
	Environment  string            `json:"environment"`
	Account      string            `json:"account"`
	Endpoint     string            `json:"endpoint,omitempty"`
	OK           bool              `json:"ok"`
	Result       string            `json:"result"`
	Status       int               `json:"status,omitempty"`
	Version      string            `json:"version,omitempty"`
	Latency      *int64            `json:"latency_ms,omitempty"`
	Message      string            `json:"message,omitempty"`
	Action       string            `json:"action,omitempty"`
	Certificates []certificateInfo `json:"certificates,omitempty"`
	Offset       *float64          `json:"clock_offset_seconds,omitempty"`
	Warnings     []string          `json:"warnings,omitempty"`
	SameAs       string            `json:"same_as,omitempty"`

	of string // the account that met this, for those that share it
}

// certificateInfo is a certificate as an administrator can compare it.
type certificateInfo struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Names     []string  `json:"names,omitempty"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	SHA256    string    `json:"sha256"`
}

// again is the row of another account that would meet the same.
func (r checkRow) again() checkRow {
	r.SameAs = r.of
	return r
}

// unreached tells whether nothing was sent, which has nothing to do with who
// logs in.
func (r checkRow) unreached() bool {
	switch r.Result {
	case resultNotResolved, resultNotConnected, resultNoTLS, resultTLS, resultUntrusted, resultOtherName, resultExpired:
		return true
	}
	return false
}

// misunderstood tells whether it was sent to what gives no answer of an
// Automation API, and is told no second password: a server may know API tokens
// and no logins, or be slow at these alone.
func (r checkRow) misunderstood() bool {
	switch r.Result {
	case resultLost, resultLate, resultNotHTTP, resultNotAPI:
		return true
	}
	return false
}

func checkFails(rows []checkRow) bool {
	return slices.ContainsFunc(rows, func(r checkRow) bool { return !r.OK })
}

func printCheckJSON(out io.Writer, rows []checkRow) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(struct {
		OK      bool       `json:"ok"`
		Results []checkRow `json:"results"`
	}{!checkFails(rows), rows})
}

func printCheckTable(out io.Writer, rows []checkRow) error {
	var text strings.Builder
	colour := wantsColour(out)
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	line := func(account, endpoint, hue, result, version, latency string) {
		if colour {
			result = hue + result + reset
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", account, endpoint, result, version, latency)
	}
	// A header of the same length in bytes keeps the columns straight.
	const usual = "\x1b[39m"
	line("ACCOUNT", "ENDPOINT", usual, "RESULT", "API", "LATENCY")
	for _, r := range rows {
		result, hue := checkWords.Replace(r.Result), red
		switch {
		case r.OK && len(r.Warnings) > 0:
			result, hue = result+", see below", yellow
		case r.Result == resultNotTried:
			hue = yellow
		case r.OK:
			hue = green
		}
		latency := ""
		if r.Latency != nil {
			latency = fmt.Sprintf("%d ms", *r.Latency)
		}
		line(r.name(), orDash(r.Endpoint), hue, result, orDash(r.Version), orDash(latency))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		r.explain(&text)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// checkWords make a result readable.
var checkWords = strings.NewReplacer("automation_api", "Automation API", "tls", "TLS", "http", "HTTP", "_", " ")

func (r checkRow) name() string { return r.Environment + "/" + r.Account }

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// explain writes what is wrong under the table, once for all who share it.
func (r checkRow) explain(text *strings.Builder) {
	where := r.name()
	if r.Endpoint != "" {
		where += " at " + r.Endpoint
	}
	if r.SameAs != "" {
		if r.Message != "" || len(r.Warnings) > 0 {
			fmt.Fprintf(text, "\n%s: as %s.\n", where, r.SameAs)
		}
		return
	}
	if r.Message == "" && len(r.Warnings) == 0 {
		return
	}
	fmt.Fprintf(text, "\n%s: %s\n", where, checkWords.Replace(r.Result))
	writeWrapped(text, "  ", r.Message)
	for i, c := range r.Certificates {
		what := "its certificate"
		if i > 0 {
			what = "shown with it"
		}
		fmt.Fprintf(text, "    %-15s  %s\n", what, c.Subject)
		if c.Issuer != c.Subject {
			fmt.Fprintf(text, "    %-15s  %s\n", "issued by", c.Issuer)
		} else {
			fmt.Fprintf(text, "    %-15s  itself\n", "issued by")
		}
		if len(c.Names) > 0 {
			fmt.Fprintf(text, "    %-15s  %s\n", "names", strings.Join(c.Names, ", "))
		}
		fmt.Fprintf(text, "    %-15s  %s to %s\n", "valid", c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
		fmt.Fprintf(text, "    %-15s  %s\n", "SHA-256", c.SHA256)
	}
	if r.Action != "" {
		writeWrapped(text, "  ", "What to do: "+r.Action)
	}
	for _, w := range r.Warnings {
		writeWrapped(text, "  ", "Warning: "+w)
	}
}

// writeWrapped writes text in lines that people like to read.
func writeWrapped(out *strings.Builder, indent, text string) {
	const width = 96
	used := 0
	for word := range strings.FieldsSeq(text) {
		switch length := len([]rune(word)); {
		case used == 0:
			out.WriteString(indent)
			used = len(indent) + length
		case used+1+length > width:
			out.WriteString("\n" + indent)
			used = len(indent) + length
		default:
			out.WriteString(" ")
			used += 1 + length
		}
		out.WriteString(word)
	}
	if used > 0 {
		out.WriteString("\n")
	}
}
