package access

import (
	"slices"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/apipath"
)

// server is a lenient server, to ask what Control-M might make of a path. It is written unlike the code it judges.
type server struct {
	decodes       int
	decodesFirst  bool // an encoded slash cuts segments
	cutsSuffix    bool
	cutsQueries   bool // a decoded "?" or "#" ends the path
	dropsSuffixed bool // a segment that is all suffix is none
}

func (s server) reads(below string) []string {
	decode := func(text string) string {
		for range s.decodes {
			text = decodeOnce(text)
		}
		return text
	}
	parts := strings.Split(below, "/")
	if s.decodesFirst {
		parts = strings.Split(decode(below), "/")
	}
	var segments []string
	for _, part := range parts {
		if !s.decodesFirst {
			part = decode(part)
		}
		ends := false
		if i := strings.IndexAny(part, "?#"); i >= 0 && s.cutsQueries {
			part, ends = part[:i], true
		}
		part, _, _ = strings.Cut(part, ";")
		name, _, _ := strings.Cut(part, ".")
		if name == "" && !s.dropsSuffixed || !s.cutsSuffix {
			name = strings.TrimRight(part, ".")
		}
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "", ".":
		case "..":
			segments = segments[:max(0, len(segments)-1)]
		default:
			segments = append(segments, name)
		}
		if ends {
			break
		}
	}
	return segments
}

// decodeOnce decodes what is an escape and leaves the rest.
func decodeOnce(text string) string {
	const digits = "0123456789abcdef"
	var out []byte
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			high := strings.IndexByte(digits, text[i+1]|0x20)
			low := strings.IndexByte(digits, text[i+2]|0x20)
			if high >= 0 && low >= 0 {
				out = append(out, byte(high<<4|low))
				i += 2
				continue
			}
		}
		out = append(out, text[i])
	}
	return string(out)
}

func servers() (all []server) {
	for decodes := 1; decodes <= 5; decodes++ {
		for bits := range 16 {
			all = append(all, server{decodes, bits&1 > 0, bits&2 > 0, bits&4 > 0, bits&8 > 0})
		}
	}
	return all
}

func FuzzDecide(f *testing.F) {
	for _, seed := range []string{
		"/run/jobs/status", "/run/..%2fconfig/x", "/run/%252e%252e/config/x", "/config%2Fx", "/run/x/.%2e/config", "/run%3Bx/y", "/Run/x", "/run.x/y",
		"/config.json/x", "/run/job/x%2Fkill%3F/hold", "/run/.x/job/1/kill", "/%72un/x", "/run%2Fx", "/run/x%3F/../y", "/.x/config/y",
		"/run/job/1%2Foutput%3F/status", "/run/job/1%2Flog%23x/status", "/run/job/.x/1/log", "/run/job/1/LOG.txt", "/run/job/1/%256Cog", "/run%3F/x", "/run/%2520/x", "/con%2566ig%252Fx", "/config%20/x", "/run/job/1/%E2%84%AAill", "/run/job/.a/1/kill",
	} {
		f.Add("POST", seed, "GET,POST /run/job/*/hold")
		f.Add("GET", seed, "read_only")
	}
	run, noConfig, noKill := lines(f, "allow * /run/*"), lines(f, "allow * /*\ndeny * /config/*"), lines(f, "allow * /*\ndeny POST /run/job/*/kill")
	var named []Rules
	for _, s := range sets {
		named = append(named, lines(f, "allow "+s.name))
	}
	all := servers()
	f.Fuzz(func(t *testing.T, method, below, rule string) {
		anyRule, _ := ParseRule(false, strings.Fields(rule))
		anyDeny, _ := ParseRule(true, strings.Fields(rule))
		p, err := apipath.Read(method, "", "/automation-api"+below, "/automation-api")
		if err != nil {
			return
		}
		if ok, line := NewRules(anyRule, anyDeny).Decide(p); ok != strings.HasPrefix(line, "allow ") {
			t.Fatalf("%v by %q", ok, line)
		}
		mayRun, _ := run.Decide(p)
		mayNotConfig, _ := noConfig.Decide(p)
		mayNotKill, _ := noKill.Decide(p)
		inSet := make([]bool, len(named))
		for i, rules := range named {
			inSet[i], _ = rules.Decide(p)
		}
		for _, s := range all {
			segments := s.reads(below)
			if mayRun && (len(segments) == 0 || segments[0] != "run") {
				t.Fatalf("%s %q is allowed, but %+v reads %q", method, below, s, segments)
			}
			if mayNotConfig && len(segments) > 1 && segments[0] == "config" {
				t.Fatalf("%s %q is not denied, but %+v reads %q", method, below, s, segments)
			}
			if mayNotKill && method == "POST" && len(segments) == 4 && segments[3] == "kill" && slices.Equal(segments[:2], []string{"run", "job"}) {
				t.Fatalf("%s %q is not denied, but %+v reads %q", method, below, s, segments)
			}
			isJob := len(segments) == 4 && segments[0] == "run" && segments[1] == "job"
			for i, may := range inSet {
				switch {
				case !may || len(segments) == 0:
				case segments[0] == "session", segments[0] == "authentication",
					isJob && method == "POST" && segments[3] == "kill" && sets[i].name != "operate",
					isJob && p.Judged() == "GET" && (segments[3] == "output" || segments[3] == "log") && sets[i].may&apipath.Output == 0:
					t.Fatalf("%s %q is in %s, but %+v reads %q", method, below, sets[i].name, s, segments)
				}
			}
		}
	})
}
