package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain plays the roles as main does: the driver starts the program that it is in.
func TestMain(m *testing.M) {
	if play, ok := roleOf(os.Args); ok {
		exit(play(os.Args[2:], os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

func TestAComparisonRunsFromEndToEnd(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls %v", secure), func(t *testing.T) {
			o := options{requests: 200, connections: 4, rounds: 1, tls: secure, timeout: time.Minute, profiles: t.TempDir()}
			r, err := measure(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]int{direct: 1, respond: 1, reverseProxy: 2, controlm: 2} {
				if got := len(r.phases[name]); got != want {
					t.Errorf("%s was loaded %d times, not %d", name, got, want)
				}
				for _, p := range r.phases[name] {
					if many, alone := len(p.many.latencies), len(p.alone.latencies); many != 200 || alone != 20 {
						t.Errorf("%s answered %d and %d counted requests, not 200 and 20", name, many, alone)
					}
				}
			}
			for _, name := range []string{reverseProxy, controlm} {
				if info, err := os.Stat(o.profiles + "/" + name + ".prof"); err != nil || info.Size() == 0 {
					t.Errorf("no CPU profile of %s: %v", name, err)
				}
			}
			var out bytes.Buffer
			if err := r.print(&out); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{direct, respond, reverseProxy, controlm, "ratio", "200 requests"} {
				if want == "ratio" && len(r.ratios()) > 0 {
					want = "CPU controlm / reverse_proxy:"
				}
				if !strings.Contains(out.String(), want) {
					t.Errorf("the table lacks %q:\n%s", want, out.String())
				}
			}
		})
	}
}

func TestTheUpstreamWantsExactlyOneCredential(t *testing.T) {
	good := "Bearer " + upstreamToken
	for name, test := range map[string]struct {
		header http.Header
		want   int
	}{
		"the token":                  {http.Header{"Authorization": {good}}, http.StatusOK},
		"nothing":                    {http.Header{}, http.StatusBadRequest},
		"the token twice":            {http.Header{"Authorization": {good, good}}, http.StatusBadRequest},
		"another token":              {http.Header{"Authorization": {"Bearer x"}}, http.StatusBadRequest},
		"the token and an API token": {http.Header{"Authorization": {good}, "X-Api-Key": {"x"}}, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, callPath, nil)
			r.Header = test.header
			w := httptest.NewRecorder()
			newUpstream().ServeHTTP(w, r)
			if w.Code != test.want {
				t.Errorf("got %d, want %d", w.Code, test.want)
			}
		})
	}
	if n := len(serversAnswer); n < 550 || n > 650 {
		t.Errorf("the answer has %d bytes, not about 600", n)
	}
}

func TestAWrongAnswerFailsTheLoad(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
	}{
		"another status": {http.StatusBadGateway, serversAnswer},
		"another body":   {http.StatusOK, strings.Repeat("x", len(serversAnswer))},
		"a longer body":  {http.StatusOK, serversAnswer + "x"},
		"a shorter body": {http.StatusOK, serversAnswer[1:]},
		"no body":        {http.StatusOK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(test.body))
			}))
			defer server.Close()
			if _, err := load(t.Context(), newTarget(server.Listener.Addr().String(), nil, "", serversAnswer), 2, 10, nil); err == nil {
				t.Error("the load passed")
			}
		})
	}
}

func TestALoadEndsWithItsContextWhenNothingAnswers(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := load(ctx, newTarget(ln.Addr().String(), nil, "", serversAnswer), 2, 10, nil); err == nil {
		t.Error("the load passed")
	}
}

func TestCPUTimeIsReadFromAStatLine(t *testing.T) {
	for name, test := range map[string]struct {
		stat string
		want time.Duration // 0 for an error
	}{
		"a line":             {"1 (bench) S 1 1 1 0 -1 4194304 97 0 0 0 120 30 7 7 20 0", 1500 * time.Millisecond},
		"a name with spaces": {"1 (a) b (c) S 1 1 1 0 -1 4194304 97 0 0 0 1 2 7 7 20 0", 30 * time.Millisecond},
		"a cut line":         {"1 (bench) S 1 1 1 0 -1 4194304 97 0 0 0 120", 0},
		"no number":          {"1 (bench) S 1 1 1 0 -1 4194304 97 0 0 0 x 30 7 7 20 0", 0},
		"nothing":            {"", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat(test.stat)
			if got != test.want || (err != nil) != (test.want == 0) {
				t.Errorf("got %v, %v; want %v", got, err, test.want)
			}
		})
	}
}

func TestTheMachinesBusyTimeLeavesOutIdleTimeAndCountsStolenTime(t *testing.T) {
	for name, test := range map[string]struct {
		stat string
		want time.Duration // 0 for an error
	}{
		"two processors": {"cpu  100 20 3 9999 999 4 50 600 7 8\ncpu0 1 1 1 1 1 1 1 1 1 1\n", 7770 * time.Millisecond},
		"a cut line":     {"cpu  100 20 3 9999 999 4 50", 0},
		"another line":   {"intr 100 20 3 9999 999 4 50 600 7 8\n", 0},
		"no number":      {"cpu  100 x 3 9999 999 4 50 600 7 8\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseBusy(test.stat)
			if got != test.want || (err != nil) != (test.want == 0) {
				t.Errorf("got %v, %v; want %v", got, err, test.want)
			}
		})
	}
}

func TestRatiosPairNeighbours(t *testing.T) {
	took := func(cpu ...time.Duration) []phase {
		var all []phase
		for _, c := range cpu {
			all = append(all, phase{cpu: c * time.Second, many: result{latencies: make([]time.Duration, 10)}})
		}
		return all
	}
	r := &report{phases: map[string][]phase{controlm: took(1, 3, 0, 2), reverseProxy: took(2, 4, 5, 0)}}
	got := r.ratios()
	if len(got) != 2 || got[0] != 0.5 || got[1] != 0.75 {
		t.Errorf("got %v, want 0.5 and 0.75, and none for a phase without CPU time", got)
	}
	if m := median(got); m != 0.625 {
		t.Errorf("the median is %v, not 0.625", m)
	}
	if m := median([]float64{3, 1, 2}); m != 2 {
		t.Errorf("the median of three is %v, not 2", m)
	}
}

func TestFlagsThatMakeNoSenseAreErrors(t *testing.T) {
	for _, args := range [][]string{{"-requests", "0"}, {"-connections", "-1"}, {"-rounds", "0"}, {"-timeout", "0s"}, {"surplus"}, {"-x"}} {
		if _, err := parse(args, t.Output()); err == nil {
			t.Errorf("%q passed", args)
		}
	}
	o, err := parse([]string{"-requests", "5", "-tls"}, t.Output())
	if err != nil || o.requests != 5 || !o.tls || o.connections != 32 {
		t.Errorf("got %+v, %v", o, err)
	}
}
