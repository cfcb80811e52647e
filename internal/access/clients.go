package access

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Client is a script, team or tool that calls the gateway. It does not change once a Directory has it, but for what it
// uses of its Limits.
type Client struct {
	// Name stands in logs, in metrics and in gateway tokens. At most 128 bytes, without control characters.
	Name string
	// Keys are the gateway keys that prove this client. Several, so that they can be rolled.
	Keys []Key
	// Users are what Caddy's {http.auth.user.id} is when this client calls. Compared byte for byte.
	Users []string
	// Subjects are the subjects of its certificates, as in "CN=nightly,O=Example". Compared byte for byte; whoever
	// asks for one must have verified the certificate.
	Subjects []string
	// Accounts holds the account that it acts as, by environment.
	Accounts map[string]string
	// Rules is what it may call. Without an allow, it is no client.
	Rules Rules
	// AllowCredentialChanges opens the protected operations to it, as far as Rules allow them.
	AllowCredentialChanges bool
	// Limits is how much it may ask for.
	Limits Limits

	usage usage
}

// Directory finds clients by what they show. It never changes; the zero Directory knows nobody.
type Directory struct {
	keys     map[[32]byte]int // places in held, by hash
	held     []heldKey
	users    map[string]*Client
	subjects map[string]*Client
	names    map[string]*Client
}

// heldKey is all that ByKey looks at: among many clients, each place in memory that it need not visit is worth a
// tenth of it.
type heldKey struct {
	hash   [32]byte
	ends   time.Time // zero for never
	client *Client
	key    *Key
}

// NewDirectory returns a directory of clients, whose names and proofs must be unlike. A client must have a proof and
// an allow: one that could never be proven, or never call anything, is a mistake. The error is the first found, names
// the clients that it is about, and holds no hash.
func NewDirectory(clients []*Client) (*Directory, error) {
	d := &Directory{
		keys: make(map[[32]byte]int, len(clients)), names: make(map[string]*Client, len(clients)),
		users: map[string]*Client{}, subjects: map[string]*Client{},
	}
	same := newSharing()
	for _, c := range clients {
		if err := d.add(c); err != nil {
			return nil, err
		}
		c.Rules = same.rulesOf(c.Rules)
	}
	return d, nil
}

func (d *Directory) add(c *Client) error {
	if err := checkName(c.Name); err != nil {
		return fmt.Errorf("reading client %q: %w", c.Name, err)
	}
	if d.names[c.Name] != nil {
		return fmt.Errorf("reading client %q: there is another one of this name", c.Name)
	}
	d.names[c.Name] = c
	c.limit()
	if len(c.Keys)+len(c.Users)+len(c.Subjects) == 0 {
		return fmt.Errorf("reading client %q: it cannot prove itself: expected key_sha256, user or certificate_subject", c.Name)
	}
	if !c.Rules.HasAllow() {
		return fmt.Errorf("reading client %q: expected an allow: write `allow read_only` for what changes nothing, "+
			"or `allow * /*` for everything", c.Name)
	}
	for i := range c.Keys {
		k := &c.Keys[i]
		if k.Hash == ([32]byte{}) || k.Hash == emptyHash {
			return fmt.Errorf("reading client %q: a key has no hash", c.Name)
		}
		if other, found := d.keys[k.Hash]; found {
			return fmt.Errorf("reading client %q: a key is also one of client %q: expected each key once", c.Name, d.held[other].client.Name)
		}
		d.keys[k.Hash] = len(d.held)
		d.held = append(d.held, heldKey{hash: k.Hash, ends: k.Ends, client: c, key: k})
	}
	if err := claim(d.users, c, "user", c.Users); err != nil {
		return err
	}
	return claim(d.subjects, c, "certificate_subject", c.Subjects)
}

// claim enters what proves the client. Nothing empty, since that is what a missing header or placeholder looks like.
func claim(held map[string]*Client, c *Client, word string, proofs []string) error {
	for _, proof := range proofs {
		if proof == "" {
			return fmt.Errorf("reading client %q: an empty %s", c.Name, word)
		}
		if other := held[proof]; other != nil {
			return fmt.Errorf("reading client %q: %s %q is also one of client %q: expected each once",
				c.Name, word, proof, other.Name)
		}
		held[proof] = c
	}
	return nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("expected a name")
	case len(name) > maxClient:
		return fmt.Errorf("expected a name of at most %d bytes, since it goes into every gateway token", maxClient)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("expected a name without control characters, in UTF-8")
	}
	return nil
}

// ByKey returns the client that has the gateway key shown, and that key, or ErrKey. Whatever the reason, it
// takes the same steps: what was shown is hashed, looked up, and compared once in constant time.
func (d *Directory) ByKey(shown string, now time.Time) (c *Client, key *Key, err error) {
	hash := HashKey(shown)
	held := &nobody
	i, known := d.keys[hash]
	if known {
		held = &d.held[i]
	}
	same := subtle.ConstantTimeCompare(hash[:], held.hash[:]) == 1
	usable := !over(held.ends, now)
	if !same || !usable || !known {
		return nil, nil, ErrKey
	}
	return held.client, held.key, nil
}

// nobody is compared with when no client has a key.
var nobody heldKey

// ByTag returns the client of that name and the key that has this tag and is honoured at now, of a gateway token that
// was checked; or ErrEnded.
func (d *Directory) ByTag(name string, tag [TagSize]byte, now time.Time) (*Client, *Key, error) {
	c := d.names[name]
	if c == nil {
		return nil, nil, ErrEnded
	}
	for i := range c.Keys {
		if k := &c.Keys[i]; k.Tag() == tag && k.usable(now) {
			return c, k, nil
		}
	}
	return nil, nil, ErrEnded
}

// ByUser returns the client of a user that Caddy has authenticated.
func (d *Directory) ByUser(id string) (*Client, bool) {
	c, ok := d.users[id]
	return c, ok
}

// BySubject returns the client of a certificate that Caddy has verified.
func (d *Directory) BySubject(subject string) (*Client, bool) {
	c, ok := d.subjects[subject]
	return c, ok
}

// ByName returns the client of a name. A name proves nothing.
func (d *Directory) ByName(name string) (*Client, bool) {
	c, ok := d.names[name]
	return c, ok
}
