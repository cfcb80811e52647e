// Package ttlmap is a bounded map whose entries end by themselves. It holds
// what may be forgotten: refusals with their cool-down, ended gateway tokens,
// operations that answer 401.
package ttlmap

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	cache "github.com/patrickmn/go-cache"
)

// Map holds at most a fixed number of values of type V, each until its time
// is over. It is safe for concurrent use and has no goroutine: go-cache is
// made without its janitor, which only a finalizer would stop.
type Map[V any] struct {
	mu    sync.Mutex // one writer at a time, so that the bound holds
	cache *cache.Cache
	most  int
}

// New makes a map of at most most entries. When it is full, those that would
// end first make room: one, or a hundredth of them where that is more.
func New[V any](most int) *Map[V] {
	return &Map[V]{cache: cache.New(cache.NoExpiration, 0), most: most}
}

// Get returns the value of key and when it ends; ok is false when there is
// none or its time is over.
func (m *Map[V]) Get(key string) (value V, ends time.Time, ok bool) {
	held, ends, ok := m.cache.GetWithExpiration(key)
	if !ok {
		return value, time.Time{}, false
	}
	value, ok = held.(V)
	return value, ends, ok
}

// Set keeps value under key for ttl; a ttl of zero or less keeps nothing.
func (m *Map[V]) Set(key string, value V, ttl time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ttl <= 0 {
		m.cache.Delete(key)
		return
	}
	if _, known := m.cache.Get(key); !known && m.cache.ItemCount() >= m.most {
		m.makeRoom()
	}
	m.cache.Set(key, value, ttl)
}

// Delete forgets key.
func (m *Map[V]) Delete(key string) { m.cache.Delete(key) }

// Len returns the number of entries, ended ones included until they are swept.
func (m *Map[V]) Len() int { return m.cache.ItemCount() }

func (m *Map[V]) makeRoom() {
	m.cache.DeleteExpired()
	if m.cache.ItemCount() < m.most {
		return
	}
	items := m.cache.Items()
	keys := slices.SortedFunc(maps.Keys(items), func(a, b string) int {
		return cmp.Compare(items[a].Expiration, items[b].Expiration)
	})
	// A hundredth at once, so that a full map is not copied for each entry.
	for _, key := range keys[:1+m.most/100] {
		m.cache.Delete(key)
	}
}
