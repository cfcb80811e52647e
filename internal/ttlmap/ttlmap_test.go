package ttlmap

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func pass(d time.Duration) { <-time.After(d) }

func TestAnEntryEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New[string](10)
		start := time.Now()
		m.Set("a", "one", time.Minute)
		pass(time.Minute - 1)
		value, ends, ok := m.Get("a")
		if !ok || value != "one" || !ends.Equal(start.Add(time.Minute)) {
			t.Fatalf("got %q until %v, %v", value, ends, ok)
		}
		pass(2)
		if value, ends, ok = m.Get("a"); ok || value != "" || !ends.IsZero() {
			t.Errorf("after its time: %q until %v, %v", value, ends, ok)
		}
	})
}

func TestSettingAgainGivesANewValueAndANewTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New[int](1)
		m.Set("a", 1, time.Minute)
		pass(50 * time.Second)
		m.Set("a", 2, time.Minute)
		pass(50 * time.Second)
		if value, _, ok := m.Get("a"); !ok || value != 2 {
			t.Errorf("got %d, %v", value, ok)
		}
	})
}

func TestATimeThatIsOverKeepsNothing(t *testing.T) {
	for _, ttl := range []time.Duration{0, -1, -time.Hour} { // go-cache takes 0 and -1 as "for ever"
		m := New[int](10)
		m.Set("new", 1, ttl)
		m.Set("old", 1, time.Hour)
		m.Set("old", 2, ttl)
		for _, key := range []string{"new", "old"} {
			if _, _, ok := m.Get(key); ok {
				t.Errorf("%s with a ttl of %v was kept", key, ttl)
			}
		}
	}
}

func TestTheEntryThatWouldEndFirstMakesRoom(t *testing.T) {
	m := New[int](3)
	m.Set("later", 1, 3*time.Hour)
	m.Set("first", 2, 1*time.Hour)
	m.Set("second", 3, 2*time.Hour)
	m.Set("second", 4, 2*time.Hour) // known: needs no room
	for _, key := range []string{"later", "first", "second"} {
		if _, _, ok := m.Get(key); !ok {
			t.Fatalf("%s is gone already", key)
		}
	}
	m.Set("new", 5, time.Minute)
	for key, want := range map[string]bool{"later": true, "first": false, "second": true, "new": true} {
		if _, _, ok := m.Get(key); ok != want {
			t.Errorf("%s is there: %v, want %v", key, ok, want)
		}
	}
}

func TestEndedEntriesMakeRoomBeforeLivingOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New[int](3)
		m.Set("ended", 1, time.Second)
		m.Set("ended too", 2, time.Second)
		m.Set("living", 3, time.Minute)
		pass(2 * time.Second)
		m.Set("new", 4, time.Hour)
		if _, _, ok := m.Get("living"); !ok || m.Len() != 2 {
			t.Errorf("the living entry is there: %v, among %d", ok, m.Len())
		}
	})
}

func TestTheBoundHoldsWhateverIsSet(t *testing.T) {
	const most = 50
	m := New[int](most)
	for i := range 10 * most {
		m.Set(fmt.Sprint(i), i, time.Hour+time.Duration(i))
		if m.Len() > most {
			t.Fatalf("%d entries after %d", m.Len(), i+1)
		}
	}
	for i := 9 * most; i < 10*most; i++ {
		if value, _, ok := m.Get(fmt.Sprint(i)); !ok || value != i {
			t.Errorf("%d is gone, though it ends late", i)
		}
	}
}

func TestDeleteForgets(t *testing.T) {
	m := New[int](10)
	m.Set("a", 1, time.Hour)
	m.Delete("a")
	m.Delete("never there")
	if _, _, ok := m.Get("a"); ok || m.Len() != 0 {
		t.Errorf("still there: %v, among %d", ok, m.Len())
	}
}

func TestConcurrentUseKeepsTheBound(t *testing.T) {
	const most = 20
	m := New[string](most)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				key := fmt.Sprint(i % 60)
				m.Set(key, key, time.Duration(1+i%3)*time.Hour)
				if value, _, ok := m.Get(key); ok && value != key {
					t.Errorf("%s holds %s", key, value)
				}
				if i%7 == 0 {
					m.Delete(key)
				}
				if n := m.Len(); n > most {
					t.Errorf("%d entries", n)
				}
			}
		})
	}
	wg.Wait()
}
