package automationapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// TokenInfo is what the Authentication service tells of an API token: all of
// it but the token itself (controlm-api.md, section 1). What has another type
// than documented is taken as the text that it is.
type TokenInfo struct {
	Name       string   `json:"tokenName"`
	Type       string   `json:"tokenType,omitempty"`
	User       string   `json:"user,omitempty"`
	Roles      []string `json:"roles,omitempty"`
	Expires    string   `json:"expirationDate,omitempty"` // YYYY-MM-DD, in UTC; empty: never
	Created    string   `json:"createdDate,omitempty"`
	Updated    string   `json:"lastUpdatedDate,omitempty"`
	Server     string   `json:"server,omitempty"`
	ServerHost string   `json:"serverHost,omitempty"`
	ServerID   string   `json:"serverId,omitempty"`
	Tag        string   `json:"tag,omitempty"`

	members []member // as the service wrote them, but for the token itself
}

// member is one of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// UnmarshalJSON takes any object.
func (t *TokenInfo) UnmarshalJSON(text []byte) error {
	members, err := membersOf(text)
	if err != nil {
		return err
	}
	*t = TokenInfo{}
	var secrets []string
	for _, m := range members {
		if is(m, "tokenValue") {
			secrets = append(secrets, spellings(textOf(m.value))...)
		}
	}
	secrets = slices.DeleteFunc(secrets, func(s string) bool { return len(s) < partOfSecret }) // too short for a value
	for _, m := range members {
		if is(m, "tokenValue") || slices.ContainsFunc(secrets, func(s string) bool { return bytes.Contains(m.value, []byte(s)) }) {
			continue
		}
		t.members = append(t.members, m)
		t.take(m)
	}
	return nil
}

func (t *TokenInfo) take(m member) {
	for name, field := range map[string]*string{
		"tokenName": &t.Name, "tokenType": &t.Type, "user": &t.User, "expirationDate": &t.Expires, "createdDate": &t.Created,
		"lastUpdatedDate": &t.Updated, "server": &t.Server, "serverHost": &t.ServerHost, "serverId": &t.ServerID, "tag": &t.Tag,
	} {
		if is(m, name) {
			*field = textOf(m.value)
		}
	}
	if !is(m, "roles") {
		return
	}
	t.Roles = nil
	var list []json.RawMessage
	if json.Unmarshal(m.value, &list) != nil {
		list = []json.RawMessage{m.value} // one that stands alone
	}
	for _, one := range list {
		if role := textOf(one); role != "" {
			t.Roles = append(t.Roles, role)
		}
	}
}

// Definition is what UpdateToken takes: all that the service tells, but for
// what it does not let anybody set. It is JSON.
func (t *TokenInfo) Definition() json.RawMessage {
	var text bytes.Buffer
	text.WriteByte('{')
	for _, m := range t.members {
		if is(m, "user") || is(m, "createdDate") || is(m, "lastUpdatedDate") {
			continue
		}
		if text.Len() > 1 {
			text.WriteByte(',')
		}
		name, _ := json.Marshal(m.name) // a string
		text.Write(name)
		text.WriteByte(':')
		text.Write(m.value)
	}
	text.WriteByte('}')
	return text.Bytes()
}

func is(m member, name string) bool { return strings.EqualFold(m.name, name) }

// membersOf are those of an object, in their order.
func membersOf(text []byte) (list []member, err error) {
	in := json.NewDecoder(bytes.NewReader(text))
	if begin, err := in.Token(); err != nil || begin != json.Delim('{') {
		return nil, errors.New("no JSON object")
	}
	for in.More() {
		name, err := in.Token()
		if err != nil {
			return nil, err
		}
		m := member{name: name.(string)} // or there is an error
		if err := in.Decode(&m.value); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// textOf is a value as text: what a string says, nothing for null, and else the
// JSON itself.
func textOf(value json.RawMessage) (text string) {
	if json.Unmarshal(value, &text) == nil {
		return text
	}
	var short bytes.Buffer
	_ = json.Compact(&short, value) // was read before
	return short.String()
}
