package emulator

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// States of a job, as JobRunStatus prints them.
const (
	stateWaiting   = "Wait Condition"
	stateUser      = "Wait User"
	stateExecuting = "Executing"
	stateOK        = "Ended OK"
	stateNotOK     = "Ended Not OK"
)

const (
	maxJobs      = 20000 // twice what GET /run/jobs/status can show (controlm-api.md 5.1)
	maxRuns      = 5000
	maxFolders   = 200
	maxPerFolder = 500
	stampForm    = "20060102150405"
)

// job is an ordered job. Its state is not stored but worked out from these
// moments and the clock.
type job struct {
	id, runID string
	folder    *folder
	spec      jobSpec
	after     *job // must have ended OK before
	ordered   time.Time
	notBefore time.Time  // raised by free and confirm
	started   *time.Time // set by runNow and rerun
	held      *time.Time
	confirmed bool
	deleted   bool
	runs      int
	ended     *ending // set by kill and setToOk
}

type ending struct {
	at time.Time
	ok bool
}

// begins tells when the job starts to execute; false: not as things stand.
func (j *job) begins() (time.Time, bool) {
	if j.started != nil {
		return *j.started, true
	}
	if j.spec.confirm && !j.confirmed {
		return time.Time{}, false
	}
	begin := j.ordered.Add(waitTime)
	if j.after != nil {
		end, known := j.after.ends()
		if !known || !end.ok {
			return time.Time{}, false
		}
		if next := end.at.Add(waitTime); next.After(begin) {
			begin = next
		}
	}
	if j.notBefore.After(begin) {
		begin = j.notBefore
	}
	if j.held != nil && !begin.Before(*j.held) {
		return time.Time{}, false
	}
	return begin, true
}

// ends tells when and how the job ends, also when that lies ahead.
func (j *job) ends() (ending, bool) {
	if j.ended != nil {
		return *j.ended, true
	}
	begin, known := j.begins()
	if !known {
		return ending{}, false
	}
	// A second run of a job that failed goes well, so that a user can repair.
	return ending{at: begin.Add(j.spec.runs), ok: !j.spec.fails || j.runs > 1}, true
}

func (j *job) state(now time.Time) string {
	begin, begins := j.begins()
	end, ends := j.ends()
	switch {
	case ends && !now.Before(end.at) && end.ok:
		return stateOK
	case ends && !now.Before(end.at):
		return stateNotOK
	case begins && !now.Before(begin):
		return stateExecuting
	case j.spec.confirm && !j.confirmed:
		return stateUser
	default:
		return stateWaiting
	}
}

func over(state string) bool { return state == stateOK || state == stateNotOK }

// plant holds folders, ordered jobs, events and variables.
type plant struct {
	mu        sync.Mutex
	folders   []*folder
	jobs      []*job // oldest first
	byID      map[string]*job
	runs      map[string][]*job
	runOrder  []string
	lastJob   int
	lastRun   int
	events    []eventData
	variables map[string]map[string]string
}

func newPlant(now time.Time) *plant {
	p := &plant{byID: map[string]*job{}, runs: map[string][]*job{}, variables: map[string]map[string]string{}}
	for _, f := range seedFolders() {
		p.folders = append(p.folders, &f)
		if f.server == "ctmprod" {
			p.order(p.newRun(), &f, "", false, now.Add(-time.Hour))
		}
	}
	return p
}

func (p *plant) find(server, name string) *folder {
	for _, f := range p.folders {
		if f.name == name && (server == "" || f.server == server) {
			return f
		}
	}
	return nil
}

func (p *plant) newRun() string {
	p.lastRun++
	runID := fmt.Sprintf("%08d-0000-4000-8000-000000000000", p.lastRun)
	p.runOrder = append(p.runOrder, runID)
	return runID
}

// order adds the jobs of a folder whose names match to a run. The caller holds
// the lock, or is newPlant.
func (p *plant) order(runID string, f *folder, names string, hold bool, now time.Time) {
	var previous *job
	for _, spec := range f.jobs {
		if !matchesAny(names, spec.name) {
			continue
		}
		p.lastJob++
		// "workbench:" is the prefix that samples show; a gateway must pass it
		// with and without its colon encoded (controlm-api.md 0.10).
		j := &job{
			id: fmt.Sprintf("workbench:%05d", p.lastJob), runID: runID, folder: f, spec: spec,
			after: previous, ordered: now, runs: 1,
		}
		if hold {
			j.held = &now
		}
		previous = j
		p.jobs = append(p.jobs, j)
		p.byID[j.id] = j
		p.runs[runID] = append(p.runs[runID], j)
	}
	p.forget()
}

// forget drops the oldest jobs and runs, a tenth at a time, while there are too many.
func (p *plant) forget() {
	if len(p.jobs) > maxJobs {
		for _, j := range p.jobs[:maxJobs/10] {
			delete(p.byID, j.id)
		}
		p.jobs = slices.Delete(p.jobs, 0, maxJobs/10)
	}
	if len(p.runOrder) > maxRuns {
		for _, id := range p.runOrder[:maxRuns/10] {
			delete(p.runs, id)
		}
		p.runOrder = slices.Delete(p.runOrder, 0, maxRuns/10)
	}
}

// matchesAny tells whether name fits one of the comma-separated patterns, in
// which * stands for anything and ? for one byte. No pattern fits everything.
func matchesAny(patterns, name string) bool {
	if patterns == "" {
		return true
	}
	for p := range strings.SplitSeq(patterns, ",") {
		if matches(p, name) {
			return true
		}
	}
	return false
}

// matches takes time in the product of the lengths at worst: patterns come from
// strangers.
func matches(pattern, name string) bool {
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
