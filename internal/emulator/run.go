package emulator

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	defaultLimit = 1000
	maxLimit     = 10000 // controlm-api.md 5.1
	runPage      = 25
)

type runResult struct {
	RunID          string `json:"runId"`
	StatusURI      string `json:"statusURI"`
	MonitorPageURI string `json:"monitorPageURI"`
}

type jobRunStatus struct {
	JobID          string `json:"jobId"`
	FolderID       string `json:"folderId"`
	NumberOfRuns   int    `json:"numberOfRuns"`
	Name           string `json:"name"`
	Folder         string `json:"folder"`
	Type           string `json:"type"`
	Status         string `json:"status"`
	Held           bool   `json:"held"`
	Deleted        bool   `json:"deleted"`
	Cyclic         bool   `json:"cyclic"`
	StartTime      string `json:"startTime"`
	EndTime        string `json:"endTime"`
	OrderDate      string `json:"orderDate"`
	Server         string `json:"ctm"`
	Host           string `json:"host"`
	Application    string `json:"application"`
	SubApplication string `json:"subApplication"`
	Description    string `json:"description"`
	OutputURI      string `json:"outputURI"`
	LogURI         string `json:"logURI"`
}

type jobStatusResult struct {
	Statuses       []jobRunStatus `json:"statuses"`
	Returned       int            `json:"returned"`
	StartIndex     int            `json:"startIndex"`
	ItemsPerPage   int            `json:"itemsPerPage"`
	Total          int            `json:"total"`
	NextURI        string         `json:"nextURI,omitempty"`
	PrevURI        string         `json:"prevURI,omitempty"`
	MonitorPageURI string         `json:"monitorPageURI"`
}

// monitorPage points to the web interface, beside the API (controlm-api.md 5.3).
func (c *call) monitorPage() string {
	return strings.TrimSuffix(c.publicBase(), c.e.base) + "/ControlM/#Neighborhood"
}

func (c *call) started(runID string) answer {
	return ok(runResult{
		RunID: runID, StatusURI: c.publicBase() + "/run/status/" + runID, MonitorPageURI: c.monitorPage(),
	})
}

func (c *call) order() answer {
	var in struct {
		Server string `json:"ctm"`
		Folder string `json:"folder"`
		Jobs   string `json:"jobs"`
		Hold   any    `json:"hold"` // samples have "true" and true
	}
	if bad := c.readJSON(&in, maxJSONBody); bad != nil {
		return *bad
	}
	if in.Server == "" || in.Folder == "" {
		return fail(http.StatusBadRequest, "ctm and folder are required")
	}
	if !knownServer(in.Server) {
		return noServer
	}
	p := c.e.plant
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.find(in.Server, in.Folder)
	if f == nil {
		return fail(http.StatusNotFound, "Folder was not found")
	}
	hold := in.Hold == true || in.Hold == "true"
	runID := p.newRun()
	p.order(runID, f, in.Jobs, hold, time.Now())
	if len(p.runs[runID]) == 0 {
		return fail(http.StatusNotFound, "No job of the folder matches")
	}
	return c.started(runID)
}

func (c *call) runStatus() answer {
	start, _, bad := c.page(runPage)
	if bad != nil {
		return *bad
	}
	p := c.e.plant
	p.mu.Lock()
	defer p.mu.Unlock()
	jobs, found := p.runs[c.param(0)]
	if !found {
		return fail(http.StatusNotFound, "Run was not found")
	}
	return ok(c.statuses(jobs, start, runPage))
}

// jobsStatus answers 206 when there are more rows than the limit; that is no
// byte range (controlm-api.md 2).
func (c *call) jobsStatus() answer {
	start, limit, bad := c.page(defaultLimit)
	if bad != nil {
		return *bad
	}
	q := c.r.URL.Query()
	p := c.e.plant
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	var fit []*job
	for _, j := range p.jobs {
		if matchesAny(q.Get("jobname"), j.spec.name) && matchesAny(q.Get("folder"), j.folder.name) &&
			matchesAny(q.Get("jobid"), j.id) && matchesAny(q.Get("application"), j.folder.application) &&
			matchesAny(q.Get("host"), j.spec.host) && matchesAny(cmp.Or(q.Get("ctm"), q.Get("server")), j.folder.server) &&
			matchesAny(q.Get("status"), j.state(now)) {
			fit = append(fit, j)
		}
	}
	result := c.statuses(fit, start, limit)
	if result.NextURI != "" {
		return answerWith(http.StatusPartialContent, result)
	}
	return ok(result)
}

func (c *call) page(limit int) (start, most int, bad *answer) {
	q := c.r.URL.Query()
	start, err := strconv.Atoi(cmp.Or(q.Get("startIndex"), "0"))
	most, err2 := strconv.Atoi(cmp.Or(q.Get("limit"), strconv.Itoa(limit)))
	if err != nil || err2 != nil || start < 0 || most < 1 {
		a := fail(http.StatusBadRequest, "startIndex and limit must be numbers")
		return 0, 0, &a
	}
	return start, min(most, maxLimit), nil
}

func (c *call) statuses(jobs []*job, start, limit int) jobStatusResult {
	r := jobStatusResult{
		Statuses: []jobRunStatus{}, StartIndex: start, ItemsPerPage: limit, Total: len(jobs), MonitorPageURI: c.monitorPage(),
	}
	now := time.Now()
	end := min(len(jobs), start+limit)
	for i := start; i < end; i++ {
		r.Statuses = append(r.Statuses, c.jobRunStatus(jobs[i], now))
	}
	r.Returned = len(r.Statuses)
	if end < len(jobs) {
		r.NextURI = c.pageURI(end)
	}
	if start > 0 {
		r.PrevURI = c.pageURI(max(0, start-limit))
	}
	return r
}

// pageURI is this request's own URL at another startIndex, without a token that
// a client may have put into the query.
func (c *call) pageURI(start int) string {
	q := c.r.URL.Query()
	q.Del("token")
	q.Set("startIndex", strconv.Itoa(start))
	path := strings.TrimPrefix(c.r.URL.EscapedPath(), c.e.base)
	return c.publicBase() + path + "?" + q.Encode()
}

func (c *call) jobRunStatus(j *job, now time.Time) jobRunStatus {
	s := jobRunStatus{
		JobID: j.id, FolderID: "workbench:F" + j.runID[3:8], NumberOfRuns: j.runs, Name: j.spec.name, Folder: j.folder.name,
		Type: j.spec.kind, Status: j.state(now), Held: j.held != nil, Deleted: j.deleted,
		OrderDate: j.ordered.Format("060102"), Server: j.folder.server, Host: j.spec.host,
		Application: j.folder.application, SubApplication: j.folder.name,
		// Not always a URL: controlm-api.md 5.3.
		OutputURI: "Job did not run, it has no output",
		LogURI:    c.jobURI(j, "log"),
	}
	if begin, known := j.begins(); known && !now.Before(begin) {
		s.StartTime = begin.Format(stampForm)
		s.OutputURI = c.jobURI(j, "output")
	}
	if over(s.Status) {
		end, _ := j.ends()
		s.EndTime = end.at.Format(stampForm)
	}
	return s
}

func (c *call) jobURI(j *job, what string) string {
	return c.publicBase() + "/run/job/" + url.PathEscape(j.id) + "/" + what
}
