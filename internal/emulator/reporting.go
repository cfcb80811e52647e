package emulator

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	maxReports = 1000
	reportSize = 8 << 20 // large enough that a client which buffers is noticed
	reportTime = 2 * time.Second
)

type report struct {
	id, name, format string
	begun            time.Time
}

type reports struct {
	mu   sync.Mutex
	last int
	list []report
}

func newReports() *reports { return &reports{} }

func (r *reports) find(id string) (report, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.list, func(x report) bool { return x.id == id })
	if i < 0 {
		return report{}, false
	}
	return r.list[i], true
}

func (r *reports) start(name, format string) report {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	x := report{id: fmt.Sprintf("report-%05d", r.last), name: name, format: format, begun: time.Now()}
	r.list = append(r.list, x)
	if len(r.list) > maxReports {
		r.list = slices.Delete(r.list, 0, 1)
	}
	return x
}

func (c *call) reportInfo(x report) map[string]any {
	info := map[string]any{"reportId": x.id, "name": x.name, "format": x.format, "status": "RUNNING"}
	if time.Since(x.begun) >= reportTime {
		url := c.publicBase() + "/reporting/download?reportId=" + x.id
		info["status"], info["url"], info["reportURL"] = "SUCCEEDED", url, url
	}
	return info
}

func (c *call) startReport() answer {
	var in struct {
		Name   string `json:"name"`
		Format string `json:"format"`
	}
	if bad := c.readJSON(&in, maxJSONBody); bad != nil {
		return *bad
	}
	if in.Name == "" || tooLong(in.Name, in.Format) {
		return fail(http.StatusBadRequest, "name is required, of at most 1024 bytes")
	}
	if in.Format == "" {
		in.Format = "csv"
	}
	return ok(c.reportInfo(c.e.reports.start(in.Name, in.Format)))
}

func (c *call) reportStatus() answer {
	x, found := c.e.reports.find(c.param(0))
	if !found {
		return fail(http.StatusNotFound, "Report was not found")
	}
	return ok(c.reportInfo(x))
}

// getReport makes a report and answers its URL in one call.
func (c *call) getReport() answer {
	if tooLong(c.param(0)) {
		return fail(http.StatusNotFound, "Report was not found")
	}
	x := c.e.reports.start(c.param(0), "csv")
	return ok(map[string]any{"format": x.format, "reportURL": c.publicBase() + "/reporting/download?reportId=" + x.id})
}

func (c *call) reportFilters() answer {
	return ok(map[string]any{"name": c.param(0), "filters": []map[string]string{
		{"name": "jobName", "type": "string"}, {"name": "orderDate", "type": "date"},
	}})
}

func (c *call) downloadReport() answer {
	x, found := c.e.reports.find(c.r.URL.Query().Get("reportId"))
	if !found {
		return fail(http.StatusNotFound, "Report was not found")
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="`+x.id+`.csv"`)
	h.Set("Content-Length", strconv.Itoa(reportSize))
	c.w.WriteHeader(http.StatusOK)
	_, _ = copyPattern(c.w, 0, reportSize) // the client may stop reading
	return answer{}
}

// archived rows are the same for everybody and never change.
var archived = func() []map[string]any {
	var rows []map[string]any
	for i := range 250 {
		rows = append(rows, map[string]any{
			"jobId": fmt.Sprintf("ctmprod:a%04d", i+1), "runNo": 1, "name": "ExtractUsage", "folder": "NightlyBilling",
			"ctm": "ctmprod", "status": stateOK, "orderDate": "260101",
		})
	}
	return rows
}()

// searchArchive answers 206 when there are more rows than the limit, which is
// normal and no byte range (controlm-api.md 2).
func (c *call) searchArchive() answer {
	_, limit, bad := c.page(100)
	if bad != nil {
		return *bad
	}
	q := c.r.URL.Query()
	rows := []map[string]any{}
	for _, row := range archived {
		if matchesAny(q.Get("jobname"), row["name"].(string)) && matchesAny(q.Get("folder"), row["folder"].(string)) {
			rows = append(rows, row)
		}
	}
	result := map[string]any{"jobs": rows[:min(limit, len(rows))], "returned": min(limit, len(rows)), "total": len(rows)}
	if limit < len(rows) {
		return answerWith(http.StatusPartialContent, result)
	}
	return ok(result)
}

func (c *call) archivedLog() answer    { return c.archivedText("log") }
func (c *call) archivedOutput() answer { return c.archivedText("output") }

func (c *call) archivedText(what string) answer {
	for _, row := range archived {
		if row["jobId"] == c.param(0) {
			return plain(fmt.Sprintf("archived %s of %s, run %s\n", what, c.param(0), c.param(1)))
		}
	}
	return fail(http.StatusNotFound, "Job was not found")
}

// root leads to the interface description, by an absolute URL (controlm-api.md 5.2).
func (c *call) root() answer {
	c.w.Header().Set("Location", c.publicBase()+"/swagger-ui.html")
	return answer{status: http.StatusFound}
}

func (c *call) swagger() answer {
	return rawAnswer("text/html;charset=UTF-8", []byte("<!doctype html><title>Automation API</title><p>emulator\n"))
}

func (c *call) specification() answer {
	text := "swagger: '2.0'\ninfo:\n  title: Automation API, as emulated\n  version: " + c.e.options.Version +
		"\nbasePath: " + c.e.base + "\npaths: {}\n"
	return rawAnswer("application/x-yaml", []byte(text))
}

// cliPackage stands for the command line package, which build files fetch
// without credentials (controlm-api.md 5.2).
func (c *call) cliPackage() answer {
	const size = 1 << 20
	c.w.Header().Set("Content-Type", "application/octet-stream")
	c.w.Header().Set("Content-Length", strconv.Itoa(size))
	c.w.WriteHeader(http.StatusOK)
	_, _ = copyPattern(c.w, 0, size)
	return answer{}
}

func (c *call) buildTime() answer { return plain("2026-11-01 00:00:00 emulator\n") }

func (c *call) serviceStatus() answer { return plain("Control-M Automation API is up\n") }
