package access

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/apipath"
)

// manyScripts is how many clients a large site is thought to have.
const manyScripts = 10_000

// scriptRules are those of one script, each a line as a config has it.
func scriptRules(i int) [][]string {
	return [][]string{
		{"allow", "read_only"},
		{"allow", "POST", "/run/order", fmt.Sprintf("/run/event/server-%d", i)},
		{"deny", "*", "/config/secret/*"},
	}
}

// loadScripts does what a load does for the clients: it reads their lines and makes the directory.
func loadScripts(t testing.TB, hashes [][32]byte) *Directory {
	t.Helper()
	clients := make([]*Client, len(hashes))
	for i, hash := range hashes {
		var rules []Rule
		for _, words := range scriptRules(i) {
			rule, err := ParseRule(words[0] == "deny", words[1:])
			if err != nil {
				t.Fatal(err)
			}
			rules = append(rules, rule)
		}
		perSecond, burst, err := ParseRate(strings.Fields("1000000/s"))
		if err != nil {
			t.Fatal(err)
		}
		clients[i] = &Client{
			Name: fmt.Sprintf("script-%d", i), Keys: []Key{{Hash: hash, Name: "2026", Used: new(atomic.Int64)}}, Rules: NewRules(rules...),
			Limits: Limits{PerSecond: perSecond, Burst: burst, Concurrent: 50, Body: 1 << 20},
		}
	}
	directory, err := NewDirectory(clients)
	if err != nil {
		t.Fatal(err)
	}
	return directory
}

func scriptKeys(n int) (keys []string, hashes [][32]byte) {
	for range n {
		key := NewKey()
		keys, hashes = append(keys, key), append(hashes, HashKey(key))
	}
	return keys, hashes
}

// scriptCalls are calls of script 7, and whether they are allowed.
var scriptCalls = []struct {
	name, method, path string
	allowed            bool
}{
	{"by a set", "GET", "/run/job/workbench:00001/output", true},
	{"by a path", "POST", "/run/event/server-7", true},
	{"escaped", "GET", "/run/job/workbench%3A00001/output", true},
	{"by no line", "POST", "/run/event/server-8", false},
	{"denied", "POST", "/config/secret/one", false},
}

func TestTenThousandClientsWithTheirRulesLoadAndDecide(t *testing.T) {
	keys, hashes := scriptKeys(manyScripts)
	begun := time.Now()
	directory := loadScripts(t, hashes)
	// A second is what is aimed at, on a machine that does nothing else.
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("the load took %s", took)
	}
	now := time.Now()
	for i, key := range keys {
		client, _, err := directory.ByKey(key, now)
		if err != nil || client.Name != fmt.Sprintf("script-%d", i) {
			t.Fatalf("client %d: %v, %v", i, client, err)
		}
		own, line := client.Rules.Decide(read(t, "POST", fmt.Sprintf("/run/event/server-%d", i)))
		others, _ := client.Rules.Decide(read(t, "POST", fmt.Sprintf("/run/event/server-%d", i+1)))
		denied, by := client.Rules.Decide(read(t, "GET", "/config/secret/one"))
		if !own || others || denied || !strings.HasPrefix(line, "allow POST /run/order ") || by != "deny * /config/secret/*" {
			t.Fatalf("client %d: %v by %q, %v, %v by %q", i, own, line, others, denied, by)
		}
	}
}

func TestADecisionAmongTenThousandClientsDoesNotAllocate(t *testing.T) {
	keys, hashes := scriptKeys(manyScripts)
	directory := loadScripts(t, hashes)
	tokens := NewTokens(nil)
	seven, _, err := directory.ByKey(keys[7], time.Now())
	if err != nil {
		t.Fatal(err)
	}
	name, tag, err := tokens.Check(tokens.Issue(seven.Name, &seven.Keys[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range scriptCalls {
		path := read(t, call.method, call.path)
		for proof, find := range map[string]func(time.Time) (*Client, *Key, error){
			"a key":   func(now time.Time) (*Client, *Key, error) { return directory.ByKey(keys[7], now) },
			"a token": func(now time.Time) (*Client, *Key, error) { return directory.ByTag(name, tag, now) },
		} {
			n := testing.AllocsPerRun(100, func() {
				client, _, err := find(time.Now())
				if err != nil {
					t.Fatal(err)
				}
				if allowed, _ := client.Rules.Decide(path); allowed != call.allowed {
					t.Fatalf("%s: allowed is %v", call.name, allowed)
				}
			})
			if n != 0 {
				t.Errorf("%s, by %s: %v allocations", call.name, proof, n)
			}
		}
	}
}

func BenchmarkLoadTenThousandClients(b *testing.B) {
	_, hashes := scriptKeys(manyScripts)
	b.ReportAllocs()
	for b.Loop() {
		loadScripts(b, hashes)
	}
}

func BenchmarkDecisionAmongTenThousandClients(b *testing.B) {
	keys, hashes := scriptKeys(manyScripts)
	directory := loadScripts(b, hashes)
	for _, call := range scriptCalls {
		path := read(b, call.method, call.path)
		b.Run(call.name, func(b *testing.B) { benchDecision(b, directory, keys, path) })
	}
	b.Run("of one client", func(b *testing.B) {
		benchDecision(b, directory, keys[7:8], read(b, "GET", "/run/jobs/status"))
	})
	b.Run("hash alone", func(b *testing.B) {
		for b.Loop() {
			HashKey(keys[7])
		}
	})
	b.Run("limits alone", func(b *testing.B) {
		client, _ := directory.ByName("script-7")
		b.ReportAllocs()
		for b.Loop() {
			if _, _, ok := client.Enter(); ok {
				client.Leave()
			}
		}
	})
}

func benchDecision(b *testing.B, directory *Directory, keys []string, path apipath.Path) {
	now := time.Now()
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i = (i + 4999) % len(keys) // far apart, so that nothing is at hand
		client, _, err := directory.ByKey(keys[i], now)
		if err != nil {
			b.Fatal(err)
		}
		client.Rules.Decide(path)
	}
}
