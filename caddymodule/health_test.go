package caddymodule_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func TestHealthAsksNothingOfControlM(t *testing.T) {
	g := startGateway(t, "{ADDR} {\n\tcontrolm_health\n\trespond 404\n}")
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/healthz/": 404, "/other": 404} {
		if got := g.get(path); got.status != want {
			t.Errorf("%s: %d, want %d", path, got.status, want)
		}
	}
	if got := g.do(http.MethodPost, "/healthz", nil, nil); got.status != 404 {
		t.Errorf("POST: %d", got.status)
	}
	if got := g.do(http.MethodHead, "/readyz", nil, nil); got.status != 200 || got.body != "" {
		t.Errorf("HEAD: %d %q", got.status, got.body)
	}
}

func TestReadinessEndsWithTheShutdownDelay(t *testing.T) {
	g := startGateway(t, "{\n\tshutdown_delay 2s\n}\n{ADDR} {\n\tcontrolm_health\n\trespond 404\n}")
	if got := g.get("/readyz"); got.status != 200 {
		t.Fatalf("before: %d", got.status)
	}
	stopped := make(chan error)
	go func() { stopped <- caddy.Stop() }()
	deadline := time.Now().Add(2 * time.Second)
	for g.get("/readyz").status != 503 {
		if time.Now().After(deadline) {
			t.Fatal("still ready in the shutdown delay")
		}
	}
	if got := g.get("/healthz"); got.status != 200 {
		t.Errorf("alive in the shutdown delay: %d", got.status)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
