package caddymodule

import (
	"errors"
	"fmt"

	"github.com/ctmgate/ctmgate/internal/access"
)

// permit says as whom the call is forwarded, or why it is not.
func (h *Handler) permit(v *visit) (answer, error) {
	if v.path.IsSession() && !v.path.IsPasswordUpdate() {
		// A log-in or log-out in disguise would be one of the gateway's own
		// session.
		return protectedOperation, errors.New("protected operation")
	}
	if h.clients == nil {
		if v.path.Protected() && !h.AllowCredentialChanges {
			return protectedOperation, errors.New("protected operation")
		}
		v.account = h.account
		return answer{}, nil
	}
	known := h.known()
	who, err := known.authenticate(v.r)
	if err != nil {
		if line, public := known.opens(v.path); public && errors.Is(err, errNoProof) {
			v.account, v.rule = nobody, line
			return answer{}, nil
		}
		return refusalOf(err), err
	}
	v.who = who
	d := known.decide(who.client, v.path)
	v.rule = d.line
	switch name := who.client.Name; {
	case d.public:
		v.account = nobody
		return answer{}, nil
	case d.allowed:
	case d.refusal.code == protectedOperation.code:
		return d.refusal, fmt.Errorf("client %s may not: protected operation", name)
	case d.line == "":
		return d.refusal, fmt.Errorf("client %s may not: no line allows it", name)
	default:
		return d.refusal, fmt.Errorf("client %s may not, by the line %q", name, d.line)
	}
	if v.account = h.accountOf(who.client); v.account == nil {
		return noAccount, fmt.Errorf("client %s has no account here", who.client.Name)
	}
	return answer{}, nil
}

// known are the clients that may call; nil where callers have no names. A
// client that a reload has removed is not let in by the config before it
// either, on a connection that its server still holds: where that has no
// client left, nobody is.
func (h *Handler) known() *clients {
	if h.clients == nil {
		return nil
	}
	switch now := h.app.newest(); {
	case now.known != nil:
		return now.known
	case now != h.app:
		return noClients
	}
	return h.clients
}

// accountOf is the client's account, else the site's or the environment's.
func (h *Handler) accountOf(client *access.Client) *account {
	if own, ok := h.clients.directory.ByName(client.Name); ok {
		client = own // where a newer config knows the client, this one still has the accounts
	}
	if name := client.Accounts[h.env.name]; name != "" {
		return h.env.accounts[name]
	}
	return h.account
}
