package emulator

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// withJob runs do on the job that the path names.
func (c *call) withJob(do func(j *job, now time.Time) answer) answer {
	p := c.e.plant
	p.mu.Lock()
	defer p.mu.Unlock()
	j := p.byID[c.param(0)]
	if j == nil {
		return fail(http.StatusNotFound, "Job was not found")
	}
	return do(j, time.Now())
}

func (c *call) jobDefinition() answer {
	return c.withJob(func(j *job, _ time.Time) answer {
		return ok(map[string]any{j.spec.name: j.spec.definition()})
	})
}

func (c *call) jobStatus() answer {
	return c.withJob(func(j *job, now time.Time) answer { return ok(c.jobRunStatus(j, now)) })
}

// jobOutput is plain text, or an error when there is none. 500 is what servers
// use for a user's mistakes as well (controlm-api.md 2).
func (c *call) jobOutput() answer {
	return c.withJob(func(j *job, now time.Time) answer {
		begin, begun := j.begins()
		if !begun || now.Before(begin) {
			return fail(http.StatusInternalServerError, wordsOutput)
		}
		text := fmt.Sprintf("+ %s\n%s of %s on %s\n", j.spec.command, j.spec.name, j.folder.name, j.spec.host)
		switch j.state(now) {
		case stateOK:
			text += "done\n"
		case stateNotOK:
			text += "error: ended with return code 1\n"
		}
		return plain(text)
	})
}

func (c *call) jobLog() answer {
	return c.withJob(func(j *job, now time.Time) answer {
		var b strings.Builder
		line := func(at time.Time, text string) {
			fmt.Fprintf(&b, "%s %s %s\n", at.Format(stampForm), j.id, text)
		}
		line(j.ordered, "ORDERED JOB:"+j.spec.name)
		if begin, known := j.begins(); known && !now.Before(begin) {
			line(begin, fmt.Sprintf("STARTED AT %s ON %s, RUN %d", begin.Format(stampForm), j.spec.host, j.runs))
		}
		if state := j.state(now); over(state) {
			end, _ := j.ends()
			line(end.at, strings.ToUpper(state))
		}
		return plain(b.String())
	})
}

// jobAction is POST /run/job/{id}/{action} for the actions of controlm-api.md 6.
func (c *call) jobAction() answer {
	action := c.param(1)
	if action == "modify" {
		if _, bad := c.readParts("jobDefinitionsFile"); bad != nil {
			return *bad
		}
	} else {
		// Some clients send a body to actions that need none.
		_, _ = io.Copy(io.Discard, io.LimitReader(c.r.Body, maxJSONBody))
	}
	return c.withJob(func(j *job, now time.Time) answer {
		known, done := j.act(action, now)
		switch {
		case !known:
			return fail(http.StatusNotFound, "not found")
		case !done:
			return fail(http.StatusBadRequest, fmt.Sprintf("Job %s cannot be changed in its state %s", j.id, j.state(now)))
		}
		return message(fmt.Sprintf("Job %s: %s was done", j.id, action))
	})
}

// act changes the job; known tells whether there is such an action, done whether
// the job's state allowed it.
func (j *job) act(action string, now time.Time) (known, done bool) {
	state := j.state(now)
	switch action {
	case "hold":
		done = !over(state) && j.held == nil
		if done {
			j.held = &now
		}
	case "free":
		if done = j.held != nil; done {
			j.held, j.notBefore = nil, now
		}
	case "confirm":
		if done = state == stateUser; done {
			j.confirmed, j.notBefore = true, now
		}
	case "runNow", "bypass":
		if done = state == stateWaiting || state == stateUser; done {
			j.started, j.held = &now, nil
		}
	case "rerun":
		if done = over(state); done {
			j.started, j.ended = &now, nil
			j.runs++
		}
	case "kill":
		if done = state == stateExecuting; done {
			j.ended = &ending{at: now}
		}
	case "setToOk":
		if done = !over(state) || state == stateNotOK; done {
			j.ended = &ending{at: now, ok: true}
		}
	case "delete":
		if done = !j.deleted && state != stateExecuting; done {
			j.deleted = true
		}
	case "undelete":
		if done = j.deleted; done {
			j.deleted = false
		}
	case "modify":
		done = !over(state)
	default:
		return false, false
	}
	return true, done
}
