package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	maxParts = 10
	// maxParsed is how much of a definitions file is looked at. The rest is read
	// and dropped: an upload of any size costs no more memory than this.
	maxParsed = 1 << 20
)

// part is what is known of one uploaded file.
type part struct {
	file  string
	start []byte
	whole bool // start is all of it
}

// readParts reads a multipart upload; the first of the names must be there. The
// names are exact (controlm-api.md 6).
func (c *call) readParts(required string) (map[string]part, *answer) {
	refuse := func(status int, text string) (map[string]part, *answer) {
		a := fail(status, text)
		return nil, &a
	}
	c.r.Body = http.MaxBytesReader(c.w, c.r.Body, maxUpload)
	reader, err := c.r.MultipartReader()
	if err != nil {
		return refuse(http.StatusBadRequest, "a multipart request with "+required+" is expected")
	}
	parts := map[string]part{}
	for len(parts) < maxParts {
		p, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, bodyFailure(err)
		}
		read, err := readPart(p)
		if err != nil {
			return nil, bodyFailure(err)
		}
		parts[p.FormName()] = read
	}
	if _, found := parts[required]; !found {
		return refuse(http.StatusBadRequest, required+" is missing")
	}
	return parts, nil
}

func readPart(p *multipart.Part) (part, error) {
	start, err := io.ReadAll(io.LimitReader(p, maxParsed))
	if err != nil {
		return part{}, err
	}
	rest, err := io.Copy(io.Discard, p)
	return part{file: p.FileName(), start: start, whole: rest == 0}, err
}

// deploymentFileResults is the element of the list that build and deploy answer:
// 200 also when it holds errors (controlm-api.md 2).
type deploymentFileResults struct {
	DeploymentFile     string      `json:"deploymentFile"`
	Folders            int         `json:"successfulFoldersCount"`
	SmartFolders       int         `json:"successfulSmartFoldersCount"`
	SubFolders         int         `json:"successfulSubFoldersCount"`
	Jobs               int         `json:"successfulJobsCount"`
	ConnectionProfiles int         `json:"successfulConnectionProfilesCount"`
	Drivers            int         `json:"successfulDriversCount"`
	DescriptorValid    bool        `json:"isDeployDescriptorValid"`
	DeployedFolders    []string    `json:"deployedFolders,omitempty"`
	DeployedJobs       []string    `json:"deployedJobs,omitempty"`
	Errors             []errorData `json:"errors,omitempty"`
}

func (c *call) build() answer {
	parts, bad := c.readParts("definitionsFile")
	if bad != nil {
		return *bad
	}
	r, _ := examine(parts["definitionsFile"])
	return ok([]deploymentFileResults{r})
}

func (c *call) deploy() answer {
	parts, bad := c.readParts("definitionsFile")
	if bad != nil {
		return *bad
	}
	r, folders := examine(parts["definitionsFile"])
	p := c.e.plant
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range folders {
		p.folders = slices.DeleteFunc(p.folders, func(old *folder) bool { return old.name == f.name && old.server == f.server })
		if len(p.folders) >= maxFolders {
			r.Errors = append(r.Errors, errorData{Message: "There are too many folders", Item: f.name})
			continue
		}
		p.folders = append(p.folders, f)
		r.DeployedFolders = append(r.DeployedFolders, f.name)
		for _, j := range f.jobs {
			r.DeployedJobs = append(r.DeployedJobs, f.name+"/"+j.name)
		}
	}
	return ok([]deploymentFileResults{r})
}

// runDefinitions is POST /run: what is uploaded runs at once and is not kept.
func (c *call) runDefinitions() answer {
	parts, bad := c.readParts("jobDefinitionsFile")
	if bad != nil {
		return *bad
	}
	r, folders := examine(parts["jobDefinitionsFile"])
	if len(r.Errors) > 0 {
		return answerWith(http.StatusBadRequest, errorList{Errors: r.Errors})
	}
	if len(folders) == 0 {
		folders = []*folder{{name: "DEFAULT", server: "ctmtest", jobs: []jobSpec{{name: "Job", kind: "Command", host: "test-app1", runs: runTime}}}}
	}
	p := c.e.plant
	p.mu.Lock()
	defer p.mu.Unlock()
	runID := p.newRun()
	for _, f := range folders {
		p.order(runID, f, "", false, time.Now())
	}
	return c.started(runID)
}

// examine finds folders and jobs in jobs-as-code. Packages (.zip, .tar.gz) and
// files beyond maxParsed are taken as they are: one folder, nothing inside.
func examine(p part) (deploymentFileResults, []*folder) {
	r := deploymentFileResults{DeploymentFile: p.file}
	looksLikeJSON := bytes.HasPrefix(bytes.TrimSpace(p.start), []byte("{"))
	if !p.whole || (!looksLikeJSON && !strings.HasSuffix(p.file, ".json")) {
		r.Folders = 1
		return r, nil
	}
	var top map[string]json.RawMessage
	if json.Unmarshal(p.start, &top) != nil {
		r.Errors = []errorData{{Message: "failed to parse json", File: p.file}}
		return r, nil
	}
	var folders []*folder
	for name, raw := range top {
		f, smart := readFolder(name, raw)
		if f == nil {
			continue
		}
		if smart {
			r.SmartFolders++
		} else {
			r.Folders++
		}
		r.Jobs += len(f.jobs)
		folders = append(folders, f)
	}
	slices.SortFunc(folders, func(a, b *folder) int { return strings.Compare(a.name, b.name) })
	return r, folders
}

func readFolder(name string, raw json.RawMessage) (f *folder, smart bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return nil, false
	}
	kind := text(members["Type"])
	application := text(members["Application"])
	if (kind != "Folder" && kind != "SimpleFolder") || tooLong(name, application) {
		return nil, false
	}
	f = &folder{name: name, server: text(members["ControlmServer"]), application: application}
	if !knownServer(f.server) {
		f.server = "ctmtest"
	}
	for member, raw := range members {
		var j struct{ Type, Host, Command string }
		if json.Unmarshal(raw, &j) != nil || len(f.jobs) >= maxPerFolder || tooLong(member, j.Type, j.Host, j.Command) {
			continue
		}
		if kind, isJob := strings.CutPrefix(j.Type, "Job:"); isJob {
			f.jobs = append(f.jobs, jobSpec{name: member, kind: kind, host: j.Host, command: j.Command, runs: runTime})
		}
	}
	slices.SortFunc(f.jobs, func(a, b jobSpec) int { return strings.Compare(a.name, b.name) })
	return f, kind == "Folder"
}

func text(raw json.RawMessage) string {
	var s string
	_ = json.Unmarshal(raw, &s) // anything but a string counts as absent
	return s
}

// deployedFolders answers definitions, for GET /deploy/folders and /deploy/jobs.
func (c *call) deployedFolders() answer {
	q := c.r.URL.Query()
	p := c.e.plant
	p.mu.Lock()
	defer p.mu.Unlock()
	list := map[string]any{}
	for _, f := range p.folders {
		if matchesAny(q.Get("folder"), f.name) && matchesAny(q.Get("server"), f.server) && matchesAny(q.Get("ctm"), f.server) {
			list[f.name] = f.definition()
		}
	}
	if len(list) == 0 {
		return fail(http.StatusNotFound, "No folder matches")
	}
	return ok(list)
}

func (c *call) deleteFolder() answer {
	p := c.e.plant
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.find(c.param(0), c.param(1))
	if f == nil {
		return fail(http.StatusNotFound, "Folder was not found")
	}
	p.folders = slices.DeleteFunc(p.folders, func(other *folder) bool { return other == f })
	return message("Folder " + f.name + " was deleted")
}
