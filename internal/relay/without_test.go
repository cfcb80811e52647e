package relay

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const goneToken = "t0k/en+ttoken=x=="

func TestATokenGoesFromEveryParameter(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		`{"uri": "http://em.example.com/status/1?token=t0k/en+ttoken=x=="}`:          `{"uri": "http://em.example.com/status/1?"}`,
		`{"uri": "/automation-api/x?a=1&token=t0k%2Fen%2Bttoken%3Dx%3D%3D&b=2"}`:     `{"uri": "/automation-api/x?a=1&&b=2"}`,
		`{"uri": "\/automation-api\/x?token=t0k\/en+ttoken=x=="}`:                    `{"uri": "\/automation-api\/x?"}`,
		`token=t0k/en+ttoken=x==token=t0k/en+ttoken=x==` + "\n":                      "\n",
		`see token=t0k%2Fen+ttoken=x==, and token=t0k/en+ttoken=x=`:                  `see , and token=t0k/en+ttoken=x=`,
		`Bearer t0k/en+ttoken=x==`:                                                   `Bearer t0k/en+ttoken=x==`,
		`token=other&token=t0k`:                                                      `token=other&token=t0k`,
		`ttoken=t0k/en+ttoken=x==`:                                                   `t`,
		`token=t0k/en+token=t0k/en+ttoken=x==`:                                       `token=t0k/en+`,
		strings.Repeat("t", 5000) + "token=" + goneToken + strings.Repeat("o", 5000): strings.Repeat("t", 5000) + strings.Repeat("o", 5000),
	} {
		if got := WithoutToken(text, goneToken); got != want {
			t.Errorf("WithoutToken(%.80q) = %.80q, want %.80q", text, got, want)
		}
		for name, src := range map[string]io.Reader{
			"whole": strings.NewReader(text), "bytes": iotest.OneByteReader(strings.NewReader(text)),
			"with its end": iotest.DataErrReader(strings.NewReader(text)),
		} {
			// io.ReadAll reads into much; the other into little.
			if name == "whole" {
				got, err := io.ReadAll(iotest.OneByteReader(Without(io.NopCloser(strings.NewReader(text)), goneToken)))
				if string(got) != want || err != nil {
					t.Errorf("%.80q, read byte by byte, is %.80q, %v; want %.80q", text, got, err, want)
				}
			}
			got, err := io.ReadAll(Without(io.NopCloser(src), goneToken))
			if string(got) != want || err != nil {
				t.Errorf("%.80q, %s, is %.80q, %v; want %.80q", text, name, got, err, want)
			}
		}
	}
}

func TestWhatCannotBeginATokenIsPassedOnAtOnce(t *testing.T) {
	in, out := io.Pipe()
	body := Without(in, goneToken)
	var p [4096]byte
	go func() { _, _ = out.Write([]byte(`{"a": 1, "tok`)) }()
	if n, err := body.Read(p[:]); string(p[:n]) != `{"a": 1, "` || err != nil {
		t.Errorf("got %q, %v", p[:n], err)
	}
	failure := errors.New("broken")
	go func() { _ = out.CloseWithError(failure) }()
	rest, err := io.ReadAll(body)
	if string(rest) != "tok" || !errors.Is(err, failure) {
		t.Errorf("got %q, %v", rest, err)
	}
	if src := io.NopCloser(strings.NewReader("x")); Without(src, "") != src {
		t.Error("without a token there is nothing to look for")
	}
}

func FuzzWithout(f *testing.F) {
	f.Add(`{"a":"/x?token=`+goneToken+`&b=1"}`, 7, 3)
	f.Add("tttoken=t0k%2Fen%2Bttoken%3Dx%3D%3D", 1, 100)
	f.Fuzz(func(t *testing.T, text string, chunk, buffer int) {
		if chunk < 1 || chunk > 1<<12 || buffer < 1 || buffer > 1<<12 {
			return
		}
		body := Without(io.NopCloser(&chunks{text, chunk}), goneToken)
		var got strings.Builder
		p := make([]byte, buffer)
		for {
			n, err := body.Read(p)
			got.Write(p[:n])
			if err == io.EOF {
				break
			}
			if err != nil || n == 0 {
				t.Fatalf("%d bytes, %v", n, err)
			}
		}
		// A removal may join what is around it to a new one, so the two need not agree about those.
		if want := WithoutToken(text, goneToken); got.String() != want && !strings.Contains(want, "token="+goneToken[:3]) {
			t.Errorf("%q became %q, want %q", text, got.String(), want)
		}
	})
}

// chunks gives a text in pieces.
type chunks struct {
	text string
	size int
}

func (c *chunks) Read(p []byte) (int, error) {
	n := copy(p[:min(len(p), c.size)], c.text)
	c.text = c.text[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
