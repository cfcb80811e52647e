package secret

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// canary is the text that must be seen nowhere.
const canary = "c4n4ry-0f-th3-p4ssw0rd"

// holders are the shapes in which a Value may reach a printer.
func holders() map[string]any {
	type nested struct{ password Value }
	type deep struct {
		inner *nested
		list  []nested
		byKey map[string]*nested
		any   any
	}
	type exported struct {
		Password Value
		Pointer  *Value
		List     []Value
		ByKey    map[string]Value
	}
	v := New(canary)
	spec, _ := Parse(canary)
	source := Fixed(v)
	n := nested{v}
	return map[string]any{
		"value":                 v,
		"pointer":               &v,
		"slice":                 []Value{v},
		"map":                   map[string]Value{"password": v},
		"unexported":            n,
		"pointer to unexported": &n,
		"deep":                  deep{&n, []nested{n}, map[string]*nested{"k": &n}, v},
		"exported":              exported{v, &v, []Value{v}, map[string]Value{"k": v}},
		"literal":               spec,
		"source":                source,
		"held":                  source.now.Load(),
		"error":                 fmt.Errorf("trying %v, %s, %q, %+v: %w", v, v, v, v, errors.New("no")),
	}
}

func wantHidden(t *testing.T, where, text string) {
	t.Helper()
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprintf("% x", canary), fmt.Sprintf("%v", []byte(canary))} {
		if strings.Contains(text, form) {
			t.Errorf("%s shows the text: %s", where, text)
		}
	}
}

func TestNoVerbPrintsAValue(t *testing.T) {
	verbs := strings.Split("%v %+v %#v %s %q %+q %#q %x %X % x %#x %d %o %b %c %U %e %f %g %t %p %T %w %z %10s %-10v %.3s %010v %[1]*v %!", " ")
	for shape, held := range holders() {
		for _, verb := range verbs {
			wantHidden(t, verb+" of "+shape, fmt.Sprintf(verb, held))
		}
		wantHidden(t, "Sprint of "+shape, fmt.Sprint(held))
		wantHidden(t, "Sprintln of "+shape, fmt.Sprintln(held))
		wantHidden(t, "Append of "+shape, string(fmt.Append(nil, held)))
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, New(canary)); got != redacted {
			t.Errorf("%s gives %s, want %s", verb, got, redacted)
		}
	}
}

func TestNoEncoderOrLoggerShowsAValue(t *testing.T) {
	var out bytes.Buffer
	level := zap.NewAtomicLevelAt(zapcore.DebugLevel)
	encoders := zap.NewProductionEncoderConfig()
	loggers := []*zap.Logger{
		zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoders), zapcore.AddSync(&out), level)),
		zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(encoders), zapcore.AddSync(&out), level)),
	}
	text := slog.New(slog.NewTextHandler(&out, nil))
	js := slog.New(slog.NewJSONHandler(&out, nil))
	for shape, held := range holders() {
		out.Reset()
		for _, l := range loggers {
			l.Info(shape, zap.Any("held", held), zap.Reflect("reflect", held))
			l.Sugar().Infow(shape, "held", held)
			l.Sugar().Info(shape, held)
		}
		text.Info(shape, "held", held, slog.Any("group", slog.GroupValue(slog.Any("held", held))))
		js.Info(shape, "held", held)
		log.New(&out, "", 0).Println(shape, held)
		if b, err := json.Marshal(held); err == nil {
			out.Write(b)
		} else {
			out.WriteString(err.Error())
		}
		if b, err := xml.Marshal(held); err == nil {
			out.Write(b)
		} else {
			out.WriteString(err.Error())
		}
		if !strings.Contains(out.String(), shape) {
			t.Fatalf("%s: nothing was captured", shape)
		}
		wantHidden(t, shape, out.String())
	}
}

// TestAPanicShowsNoValue looks at what really ends up on standard error when
// a process dies with a Value in its hands.
func TestAPanicShowsNoValue(t *testing.T) {
	if shape := os.Getenv("SECRET_TEST_PANIC"); shape != "" {
		panic(holders()[shape])
	}
	for _, shape := range []string{"value", "deep", "error", "source"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAPanicShowsNoValue$")
		cmd.Env = append(os.Environ(), "SECRET_TEST_PANIC="+shape, "GOTRACEBACK=all")
		out, err := cmd.CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("panic: ")) {
			t.Fatalf("%s: the process did not panic: %v", shape, err)
		}
		wantHidden(t, "panic with "+shape, string(out))
	}
}

func TestRevealGivesTheText(t *testing.T) {
	for _, text := range []string{"", "x", "p{ss}w0rd", "with\x00nul", "ümläut", strings.Repeat("a", 1<<16)} {
		v := New(text)
		if v.Reveal() != text || v.Empty() != (text == "") {
			t.Errorf("%.20q: revealed %.20q, empty %v", text, v.Reveal(), v.Empty())
		}
	}
	if zero := (Value{}); !zero.Empty() || zero.Reveal() != "" || fmt.Sprint(zero) != redacted {
		t.Error("the zero Value is not empty, or shows that it is")
	}
}

func TestEqualComparesTexts(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want bool
	}{{"", "", true}, {"a", "a", true}, {"a", "b", false}, {"a", "", false}, {"a", "aa", false}, {"ab", "aB", false}} {
		if got := New(row.a).Equal(New(row.b)); got != row.want {
			t.Errorf("%q and %q are equal: %v", row.a, row.b, got)
		}
	}
}

func TestFingerprintsTellValuesApartAndNothingElse(t *testing.T) {
	seen := make(map[string][]string)
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"a", "b"}, {"ab"}, {"a1:b"}, {"a", "1:b"}, {canary}} {
		f := Fingerprint(parts...)
		if other, taken := seen[f]; taken {
			t.Errorf("%q and %q have one fingerprint", parts, other)
		}
		seen[f] = parts
		if f != Fingerprint(parts...) {
			t.Errorf("%q has two fingerprints", parts)
		}
		wantHidden(t, "fingerprint", f)
	}
	plain := fmt.Sprintf("%x", canary)
	if strings.Contains(Fingerprint(canary), plain[:8]) {
		t.Error("the fingerprint begins like the text")
	}
}
