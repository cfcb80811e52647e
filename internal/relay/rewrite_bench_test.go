package relay

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// pageOfJobs is what GET /run/jobs/status answers at its limit of 10,000 jobs, with three URLs for each.
func pageOfJobs(base string) []byte {
	var b bytes.Buffer
	b.WriteString("{\n  \"statuses\" : [ ")
	for i := range 10_000 {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, `{
    "jobId" : "workbench:%05d",
    "folderId" : "workbench:%05d",
    "numberOfRuns" : 1,
    "name" : "PAYROLL_EXTRACT_STEP_%05d",
    "folder" : "PAYROLL_NIGHTLY_%03d",
    "type" : "Command",
    "status" : "Ended OK",
    "held" : false,
    "deleted" : false,
    "cyclic" : false,
    "startTime" : "Nov 21, 2026 11:%02d:27 AM",
    "endTime" : "Nov 21, 2026 11:%02d:59 AM",
    "estimatedStartTime" : [ "20261121110027", "20261122110027" ],
    "estimatedEndTime" : [ "20261121110059" ],
    "orderDate" : "261121",
    "ctm" : "ctmprod",
    "description" : "Extracts the payroll of region %d from the ledger and hands it to the printing house",
    "host" : "agent%02d.example.com",
    "library" : "PAYLIB",
    "application" : "Payroll",
    "subApplication" : "Extract",
    "statusURI" : "%s/run/job/workbench:%05d/status",
    "outputURI" : "%s/run/job/workbench:%05d/output",
    "logURI" : "%s/run/job/workbench:%05d/log"
  }`, i, i/50, i, i/50, i%60, i%60, i%7, i%40, base, i, base, i, base, i)
	}
	b.WriteString(" ],\n  \"returned\" : 10000,\n  \"total\" : 10000\n}")
	return b.Bytes()
}

func BenchmarkBody(b *testing.B) {
	const base = "https://em.example.com:8443/automation-api"
	page := pageOfJobs(base)
	for _, c := range []struct {
		name string
		page []byte
	}{
		{"three URLs a job", page},
		{"three URLs a job with a token", bytes.ReplaceAll(bytes.ReplaceAll(page, []byte(`/log"`), []byte(`/log?token=0123456789ABCDEF"`)), []byte(`/output"`), []byte(`/output?runNo=0&token=0123456789ABCDEF"`))},
		{"escaped slashes", bytes.ReplaceAll(page, []byte(`/`), []byte(`\/`))},
		{"URLs of others", bytes.ReplaceAll(page, []byte("em.example"), []byte("em.elsewhere"))},
		{"no URLs", bytes.ReplaceAll(page, []byte("https:"), []byte("URL "))},
		{"one string", []byte(`"` + strings.Repeat("Lorem ipsum dolor sit amet ", 300_000) + `"`)},
	} {
		rw := rewriterOf(b, "https://em2.example.com:8443/automation-api", base, "https://controlm.example.com")
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.page)))
			b.ReportAllocs()
			p := make([]byte, 32<<10)
			for b.Loop() {
				body := rw.Body(io.NopCloser(bytes.NewReader(c.page)), "http://localhost:8080/prod/automation-api")
				for {
					if _, err := body.Read(p); err != nil {
						break
					}
				}
				body.Close()
			}
		})
	}
}
