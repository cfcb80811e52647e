package cli

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/access"
)

func TestClientKeyPrintsTheKeyOnceAndABlockThatLoadsAsPasted(t *testing.T) {
	h := newHome(t)
	code, out := h.run(t, nil, "client-key", "nightly")
	key, block, found := strings.Cut(out, "\n\n")
	if code != 0 || !found || !access.LooksLikeKey(key) || strings.Count(out, key) != 1 {
		t.Fatalf("exit %d, it printed %q", code, out)
	}
	hash := access.HashKey(key)
	if !strings.HasPrefix(block, "client nightly {\n") || !strings.Contains(block, hex.EncodeToString(hash[:])) {
		t.Errorf("the block is %q", block)
	}
	name := regexp.MustCompile(` made-\d{4}-\d\d-\d\d-` + hex.EncodeToString(hash[:2]) + "\n")
	if !name.MatchString(block) {
		t.Errorf("the key's name is not its day and the first digits of its hash: %q", block)
	}
	caddyfile := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(caddyfile, []byte("{\ncontrolm {\n"+block+"}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := h.run(t, nil, "adapt", "--config", caddyfile); code != 0 || !strings.Contains(out, hex.EncodeToString(hash[:])) {
		t.Errorf("adapting the block: exit %d, %s", code, out)
	}
}

func TestClientKeyWantsAName(t *testing.T) {
	h := newHome(t)
	for _, args := range [][]string{{}, {"a", "b"}, {""}, {"a b"}, {"a:b"}, {"{x}"}} {
		code, out := h.run(t, nil, append([]string{"client-key"}, args...)...)
		if code != 2 || !strings.Contains(out, "expected the client's name") {
			t.Errorf("%q: exit %d, %s", args, code, out)
		}
	}
}
