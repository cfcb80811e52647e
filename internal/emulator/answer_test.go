package emulator

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

func TestJSONIsLaidOutAsJacksonDoes(t *testing.T) {
	in := map[string]any{"a": []any{}, "b": map[string]any{}, "c": []any{1, "x,:{}\"\\", map[string]any{"d": nil}, map[string]any{"e": []any{true}}}}
	want := "{\n  \"a\" : [ ],\n  \"b\" : { },\n  \"c\" : [ 1, \"x,:{}\\\"\\\\\", {\n    \"d\" : null\n  }, {\n    \"e\" : [ true ]\n  } ]\n}"
	if got := string(vendorJSON(in)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func FuzzLayOut(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":"\\\""}]}`, `[]`, `{}`, `"x"`, `[[],{}]`, `{"":{"":[]}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var compact bytes.Buffer
		if json.Compact(&compact, in) != nil {
			return
		}
		var before, after any
		if json.Unmarshal(compact.Bytes(), &before) != nil {
			return
		}
		if err := json.Unmarshal(layOut(compact.Bytes()), &after); err != nil || !reflect.DeepEqual(before, after) {
			t.Errorf("layout changes %s (%v)", compact.String(), err)
		}
	})
}
