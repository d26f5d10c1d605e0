package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// model is a store as the contract describes it, in the plainest way.
type model struct {
	records map[string]entry // by ID
	events  int
}

type entry struct {
	image        appstream.Image
	lease, woken time.Time // zero: none
}

func (m model) clone() model {
	m.records = maps.Clone(m.records)
	return m
}

func (m model) byKey(key appstream.Key) (entry, bool) {
	for _, e := range m.records {
		if e.image.Key == key {
			return e, true
		}
	}
	return entry{}, false
}

// earlier gives the earlier of two times of which either may be zero: never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// ready is when Claim finds the record; zero: never.
func (e entry) ready() time.Time {
	t := earlier(e.image.Due, e.woken)
	if !t.IsZero() && e.lease.After(t) {
		return e.lease
	}
	return t
}

func (m model) next() (t time.Time) {
	for _, e := range m.records {
		t = earlier(t, e.ready())
	}
	return t
}

func (m model) scan(q store.Query) []string {
	var list []appstream.Image
	for _, e := range m.records {
		i := e.image
		_, granted := i.Permissions[q.GrantedTo]
		mine := slices.Contains(q.Accounts, i.Account) || q.Accounts == nil && q.GrantedTo == ""
		behind := i.Name > q.After.Name || i.Name == q.After.Name && i.Account > q.After.Account
		chosen := strings.HasPrefix(i.Name, q.Prefix) && (q.States == nil || slices.Contains(q.States, i.State)) && (q.LinksTo == "" || slices.Contains(i.Links(), q.LinksTo))
		if i.Noun == q.Noun && chosen && (q.Region == "" || i.Region == q.Region) && (mine || granted) && behind {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b appstream.Image) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Account, b.Account))
	})
	if q.Limit > 0 {
		list = list[:min(len(list), q.Limit)]
	}
	names := []string{}
	for _, i := range list {
		names = append(names, i.Name+"@"+i.Account)
	}
	return names
}

// testModel does the same at random to a store and to the model, and compares.
func testModel(t *testing.T, open func(t testing.TB) store.Store) {
	rapid.Check(t, func(rt *rapid.T) {
		s := open(t)
		defer s.Close()
		var (
			m        = model{records: map[string]entry{}}
			now      = epoch
			stale    []appstream.Image // as they once were, for writes of older versions
			accounts = []string{"", alice, bob}
			anyKey   = rapid.Custom(func(rt *rapid.T) appstream.Key {
				return appstream.Key{Account: rapid.SampledFrom(accounts).Draw(rt, "account"), Region: region, Noun: appstream.NounImage,
					Name: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "name")}
			})
			anyTime = rapid.Custom(func(rt *rapid.T) time.Time {
				return now.Add(time.Duration(rapid.IntRange(-5, 10).Draw(rt, "seconds")) * time.Second)
			})
			anyDue  = rapid.OneOf(rapid.Just(time.Time{}), anyTime)
			anyLink = rapid.SampledFrom([]string{"", "", "x", "y"})
		)
		anyRecord := func() (appstream.Image, bool) {
			var list []appstream.Image
			for _, id := range slices.Sorted(maps.Keys(m.records)) {
				list = append(list, m.records[id].image)
			}
			list = append(list, stale...)
			if len(list) == 0 {
				return appstream.Image{}, false
			}
			return rapid.SampledFrom(list).Draw(rt, "record"), true
		}
		fill := func(i *appstream.Image) {
			i.Due = anyDue.Draw(rt, "due")
			i.View.Description = new(fmt.Sprint("write ", rapid.IntRange(0, 3).Draw(rt, "text")))
			i.CopyOf, i.UpdateOf = anyLink.Draw(rt, "copy of"), anyLink.Draw(rt, "update of")
			i.Permissions = nil
			for _, a := range rapid.SliceOfDistinct(rapid.SampledFrom(accounts[1:]), rapid.ID[string]).Draw(rt, "grants") {
				if i.Permissions == nil {
					i.Permissions = map[string]types.ImagePermissions{}
				}
				i.Permissions[a] = types.ImagePermissions{}
			}
		}
		expect := func(what string, err, want error) {
			if !errors.Is(err, want) {
				rt.Fatalf("%s: error %v, the model says %v", what, err, want)
			}
		}
		compare := func(tx store.Tx, m model) error {
			for id, e := range m.records {
				var found, got appstream.Image
				if err := errors.Join(tx.Find(id, &found), tx.Get(e.image.Key, &got)); err != nil {
					return err
				}
				if d := diff(e.image, found) + diff(e.image, got); d != "" {
					rt.Fatalf("a record (-model +store):\n%s", d)
				}
			}
			for _, a := range accounts {
				n, err := tx.Count(a, region, appstream.NounImage)
				want := len(m.scan(store.Query{Noun: appstream.NounImage, Accounts: []string{a}}))
				if err != nil || n != want {
					rt.Fatalf("Count of %q gives %d, %v, the model says %d", a, n, err, want)
				}
			}
			events, err := tx.Events(store.LogQuery{ID: "all"})
			if len(events) != m.events {
				rt.Fatalf("%d events, the model says %d", len(events), m.events)
			}
			return err
		}
		// write does one thing in a transaction, to the store and to the model.
		write := func(tx store.Tx, m *model) {
			switch rapid.SampledFrom([]string{"insert", "put", "put", "put", "delete", "wake", "wake", "event"}).Draw(rt, "write") {
			case "insert":
				i := newImage("", "")
				i.Key = anyKey.Draw(rt, "key")
				fill(i)
				_, exists := m.byKey(i.Key)
				if err := tx.Insert(i); exists {
					expect("Insert", err, store.ErrExists)
				} else {
					expect("Insert", err, nil)
					m.records[i.ID] = entry{image: *i}
				}
			case "put":
				i, ok := anyRecord()
				if !ok {
					return
				}
				fill(&i)
				i.State = rapid.SampledFrom([]string{i.State, appstream.ImageDeleting, appstream.ImageFailed, appstream.ImagePending}).Draw(rt, "state")
				e, exists := m.records[i.ID]
				legal := e.image.State == i.State || slices.ContainsFunc(appstream.Transitions()[i.Noun], func(t appstream.Transition) bool {
					return t.From == e.image.State && t.To == i.State
				})
				current := exists && e.image.Version == i.Version
				switch err := tx.Put(&i); {
				case !current:
					expect("Put", err, store.ErrConflict)
				case !legal:
					expect("Put", err, store.ErrTransition)
				default:
					expect("Put", err, nil)
					stale = append(stale, e.image)
					e.image = i
					m.records[i.ID] = e
				}
			case "delete":
				i, ok := anyRecord()
				if !ok {
					return
				}
				e, exists := m.records[i.ID]
				switch err := tx.Delete(&i); {
				case !exists || e.image.Version != i.Version:
					expect("Delete", err, store.ErrConflict)
				case !slices.ContainsFunc(appstream.Transitions()[i.Noun], func(t appstream.Transition) bool {
					return t.From == i.State && t.To == ""
				}):
					expect("Delete", err, store.ErrTransition)
				default:
					expect("Delete", err, nil)
					stale = append(stale, i)
					delete(m.records, i.ID)
				}
			case "wake":
				key, at := anyKey.Draw(rt, "key"), anyTime.Draw(rt, "at")
				expect("Wake", tx.Wake(key, at), nil)
				if e, ok := m.byKey(key); ok {
					e.image.Due = earlier(e.image.Due, at)
					if !e.lease.IsZero() {
						e.woken = earlier(e.woken, at)
					}
					m.records[e.image.ID] = e
				}
			case "event":
				expect("AddEvent", tx.AddEvent(store.Event{ID: "all", At: now}), nil)
				m.events++
			}
		}
		abort := errors.New("abort")
		rt.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) {
				expect("View", s.View(t.Context(), func(tx store.Tx) error { return compare(tx, m) }), nil)
				next, err := s.NextDue(t.Context())
				if want := m.next(); err != nil || !next.Equal(want) {
					rt.Fatalf("NextDue gives %v, %v, the model says %v", next, err, want)
				}
			},
			"update": func(*rapid.T) {
				attempt, old := m.clone(), m
				undo := rapid.IntRange(0, 3).Draw(rt, "undo") == 0
				var want error
				if undo {
					want = abort
				}
				oldStale := len(stale)
				err := s.Update(t.Context(), func(tx store.Tx) error {
					for range rapid.IntRange(1, 4).Draw(rt, "writes") {
						write(tx, &attempt)
						m = attempt // anyRecord chooses from what the transaction sees
					}
					if err := compare(tx, attempt); err != nil {
						rt.Fatal(err)
					}
					return want
				})
				expect("Update", err, want)
				if undo {
					m, stale = old, stale[:oldStale]
				}
			},
			"claim": func(*rapid.T) {
				limit := rapid.IntRange(0, 4).Draw(rt, "limit")
				until := now.Add(time.Duration(rapid.IntRange(1, 8).Draw(rt, "lease")) * time.Second)
				heads, err := s.Claim(t.Context(), now, until, limit)
				expect("Claim", err, nil)
				ready := 0
				for _, e := range m.records {
					if r := e.ready(); !r.IsZero() && !r.After(now) {
						ready++
					}
				}
				if len(heads) != min(ready, limit) {
					rt.Fatalf("Claim gives %d records, the model says %d", len(heads), min(ready, limit))
				}
				for n, h := range heads {
					e := m.records[h.ID]
					if r := e.ready(); r.IsZero() || r.After(now) {
						rt.Fatalf("Claim gives %s, which is ready at %v", h.Name, r)
					}
					e.image.Due = earlier(e.image.Due, e.woken)
					e.lease, e.woken = until, time.Time{}
					m.records[h.ID] = e
					i := e.image
					if h.Key != i.Key || h.Version != i.Version || h.State != i.State || !h.Due.Equal(i.Due) {
						rt.Fatalf("Claim gives the head %+v of %+v", h, i.Meta)
					}
					if n > 0 && h.Due.Before(heads[n-1].Due) {
						rt.Fatalf("Claim gives %v after %v", h.Due, heads[n-1].Due)
					}
				}
			},
			"release": func(*rapid.T) {
				i, ok := anyRecord()
				if !ok {
					rt.Skip()
				}
				expect("Release", s.Release(t.Context(), i.ID), nil)
				if e, ok := m.records[i.ID]; ok {
					e.image.Due = earlier(e.image.Due, e.woken)
					e.lease, e.woken = time.Time{}, time.Time{}
					m.records[i.ID] = e
				}
			},
			"time passes": func(*rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 6).Draw(rt, "by")) * time.Second)
			},
			"scan": func(*rapid.T) {
				q := store.Query{Noun: appstream.NounImage,
					Region:    rapid.SampledFrom([]string{"", region, region2}).Draw(rt, "region"),
					Accounts:  rapid.OneOf(rapid.Just[[]string](nil), rapid.SliceOfN(rapid.SampledFrom(accounts), 0, 7)).Draw(rt, "accounts"),
					GrantedTo: rapid.SampledFrom([]string{"", alice, bob}).Draw(rt, "granted"),
					After:     store.Position{Name: rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "name"), Account: rapid.SampledFrom(accounts).Draw(rt, "account")},
					Prefix:    rapid.SampledFrom([]string{"", "", "a", "b", "c"}).Draw(rt, "prefix"),
					States:    rapid.SampledFrom([][]string{nil, nil, {}, {appstream.ImageAvailable}, {appstream.ImagePending, appstream.ImageFailed}}).Draw(rt, "states"),
					LinksTo:   anyLink.Draw(rt, "linked"),
					Limit:     rapid.IntRange(0, 4).Draw(rt, "limit")}
				if d := gocmp.Diff(m.scan(q), scan(t, s, q)); d != "" {
					rt.Fatalf("Scan of %+v (-model +store):\n%s", q, d)
				}
			},
		})
	})
}
