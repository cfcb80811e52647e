package caddymodule

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// keyUses remembers when each gateway key was last used, over reloads: that
// tells when an old one can go. Only keys of configs come in, so there are few.
var keyUses sync.Map // hash → *atomic.Int64, seconds since 1970

// usesOf is where the last use of a key is noted.
func usesOf(hash [32]byte) *atomic.Int64 {
	held, _ := keyUses.LoadOrStore(hash, new(atomic.Int64))
	return held.(*atomic.Int64)
}

// clientInfos tells of all clients, by name.
func (a *App) clientInfos() []ClientInfo {
	list := []ClientInfo{}
	for _, name := range slices.Sorted(maps.Keys(a.Clients)) {
		client, ok := a.known.directory.ByName(name)
		if !ok {
			continue
		}
		info := ClientInfo{Client: name, Keys: []KeyInfo{}}
		for i := range client.Keys {
			key := &client.Keys[i]
			one := KeyInfo{Name: key.Name}
			if !key.Ends.IsZero() {
				one.Ends = &key.Ends
			}
			if last := key.Used.Load(); last != 0 {
				at := time.Unix(last, 0).UTC()
				one.LastUsed = &at
			}
			info.Keys = append(info.Keys, one)
		}
		list = append(list, info)
	}
	return list
}
